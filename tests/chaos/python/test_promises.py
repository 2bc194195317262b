# SPDX-License-Identifier: Apache-2.0
"""What is promised of tasks, objects and actors, each by a program of its own."""

import os

import pytest
from worlds import FULL, count, in_role


def run(world, code, argument=None):
    """Runs a program to its end."""
    driver = world.start(code, argument)
    driver.hear("end")
    driver.finish()


def test_task_behind_a_crashing_one_runs_exactly_once(world, rng):
    """Counted outside: each run appends a byte to the file of its task."""
    runs = os.path.join(world.path, "runs")
    os.mkdir(runs)
    code = """
    from ray.exceptions import WorkerCrashedError
    rng = random.Random(argument["seed"])
    start(num_cpus=1)

    @ray.remote(max_retries=0)
    def task(name, crash):
        fd = os.open(f"{argument['runs']}/{name}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(fd, b"x")
        os.close(fd)
        if crash:
            os._exit(1)
        return name

    names = 0
    ray.get([task.remote(f"warm{i}", False) for i in range(300)])  # short ones: pushed in depth
    for round in range(argument["rounds"]):
        crashing = rng.randrange(40)
        refs = [task.remote(f"{round}-{i}", i == crashing) for i in range(40)]
        for i, ref in enumerate(refs):
            try:
                assert ray.get(ref) == f"{round}-{i}" and i != crashing
            except WorkerCrashedError:
                assert i == crashing, (round, i, crashing)
    ray.shutdown()
    say("end")
    """
    rounds = count(8, 100)
    run(world, code, {"seed": rng.getrandbits(32), "runs": runs, "rounds": rounds})
    assert len(os.listdir(runs)) == 300 + rounds * 40
    for name in os.listdir(runs):
        assert os.path.getsize(os.path.join(runs, name)) == 1, name


def test_two_tasks_that_meet_over_a_socket(world):
    code = """
    start(num_cpus=2)

    @ray.remote
    def listens(path):
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(path)
            s.listen()
            other, _ = s.accept()
            with other:
                return other.recv(100)

    @ray.remote
    def connects(path):
        while True:
            with socket.socket(socket.AF_UNIX) as s:
                try:
                    s.connect(path)
                except (FileNotFoundError, ConnectionRefusedError):
                    continue
                s.sendall(b"hello")
                return True

    @ray.remote
    def short(x):
        return x

    ray.get([short.remote(i) for i in range(500)])
    for i in range(argument):
        path = f"{os.getcwd()}/meet{i}"
        order = [connects, listens] if i % 2 else [listens, connects]
        refs = [f.remote(path) for f in order]
        assert sorted(map(str, ray.get(refs))) == ["True", "b'hello'"]
        os.unlink(path)
    ray.shutdown()
    say("end")
    """
    run(world, code, count(10, 100))


NESTED = """
    start(num_cpus=1)

    @ray.remote
    def inner(x):
        return x + 1

    @ray.remote
    def outer(x):
        return ray.get(inner.remote(x))

    refs = [outer.remote(i) for i in range(argument)]
    most = 0
    for i in range(0, argument, 50):
        assert ray.get(refs[i:i + 50]) == list(range(i + 1, min(i + 51, argument + 1)))
        most = max(most, sum(w["worker_type"] == "WORKER" for w in state("workers")))
        say("some")
        assert hear() == "go"
    say("most", most=most)
    ray.shutdown()
    say("end")
"""


def test_outer_and_inner_take_few_processes(world):
    tasks = count(500, 10000)
    driver = world.start(NESTED, tasks)
    for _ in range(0, tasks, 50):
        driver.hear("some")
        assert len(in_role("worker")) <= 8
        driver.tell("go")
    assert driver.hear("most")["most"] <= 8
    driver.hear("end")
    driver.finish()


def test_nesting_deep(world):
    code = """
    start(num_cpus=1)

    @ray.remote
    def deeper(n):
        return 0 if n == 0 else 1 + ray.get(deeper.remote(n - 1))

    assert ray.get(deeper.remote(argument)) == argument
    ray.shutdown()
    say("end")
    """
    run(world, code, count(60, 200))


def test_numbers_differ_between_workers(world):
    code = """
    start(num_cpus=4)

    @ray.remote
    def draw(x):
        time.sleep(0.1)
        return os.getpid(), float(np.random.rand()), random.random()

    drawn = ray.get([draw.remote(i) for i in range(16)])
    assert len({pid for pid, _, _ in drawn}) == 4
    assert len({n for _, n, _ in drawn}) == 16
    assert len({n for _, _, n in drawn}) == 16
    ray.shutdown()
    say("end")
    """
    run(world, code)


def test_objects_of_all_sizes(world, rng):
    code = """
    rng = random.Random(argument["seed"])
    start(num_cpus=3, object_store_memory=300_000_000)

    @ray.remote
    def make(seed, count):
        rng = random.Random(seed)
        made = []
        for i in range(count):
            size = int(2 ** rng.uniform(0, 22))
            made.append((size, i % 256, ray.put(np.full(size, i % 256, dtype=np.uint8))))
        return made

    @ray.remote
    def check(made):
        for size, value, ref in made:
            array = ray.get(ref)
            assert array.size == size and (array == value).all()
        return len(made)

    def once():
        makers = [make.remote(rng.getrandbits(32), 20) for _ in range(3)]
        checks = [check.remote(m) for m in makers for _ in range(2)]
        mine = [(n, np.full(n, 7, dtype=np.uint8)) 
                for n in (0, 1, 1000, 102400, 102401, 2**19, 2**21)]
        refs = [ray.put(a) for _, a in mine]
        for (n, a), ref in zip(mine, refs):
            got = ray.get(ref)
            assert got.size == n and (got == 7).all()
        assert ray.get(checks) == [20] * 6

    for _ in range(argument["rounds"]):
        once()
    until(lambda: state("store")["objects"] == 0, "all objects are freed")

    ray.shutdown()
    say("end")
    """
    run(world, code, {"seed": rng.getrandbits(32), "rounds": count(4, 40)})


@pytest.mark.skipif(not FULL, reason="a put into a full store waits 15 s; tests/python has one")
def test_a_full_store(world):
    code = """
    start(num_cpus=1, object_store_memory=300_000_000)
    held = []
    message = ""
    try:
        while True:
            held.append(ray.put(np.ones(20_000_000, dtype=np.uint8)))
    except ray.exceptions.ObjectStoreFullError as e:
        message = str(e)
    assert len(held) >= 10, len(held)
    assert str(os.getpid()) in message, message
    array = ray.get(held[0])
    del held
    until(lambda: state("store")["objects"] <= 1, "what was held is freed")
    again = [ray.put(np.ones(20_000_000, dtype=np.uint8)) for _ in range(10)]
    assert array.sum() == 20_000_000
    del again, array
    until(lambda: state("store")["objects"] == 0 and state("store")["dying"] == 0, "all is freed")
    ray.shutdown()
    say("end")
    """
    run(world, code)


def test_actors(world, rng):
    code = """
    from ray.exceptions import ActorDiedError
    start(num_cpus=2)

    @ray.remote
    class Actor:
        def __init__(self, fail=False):
            if fail:
                raise ValueError("mine")
            self.n = 0
        def add(self):
            self.n += 1
            return self.n
        def die(self):
            os.kill(os.getpid(), signal.SIGKILL)
        def write(self, path):
            with open(path, "a") as f:
                f.write("x")

    bad = Actor.remote(True)
    for _ in range(3):
        try:
            ray.get(bad.add.remote())
            raise SystemExit("no error")
        except ActorDiedError as e:
            assert "mine" in str(e), e

    for _ in range(argument["kills"]):
        a = Actor.remote()
        before = [a.add.remote() for _ in range(5)]
        died = a.die.remote()
        after = [a.add.remote() for _ in range(5)]
        assert ray.get(before) == [1, 2, 3, 4, 5]
        for ref in [died, *after]:
            try:
                ray.get(ref)
                raise SystemExit("no error")
            except ActorDiedError as e:
                assert "SIGKILL" in str(e), e

    path = os.getcwd() + "/written"
    a = Actor.remote()
    for _ in range(50):
        a.write.remote(path)
    del a
    until(lambda: os.path.exists(path) and os.path.getsize(path) == 50, "queued calls are done")
    os.unlink(path)

    many = [Actor.options(num_cpus=0).remote() for _ in range(argument["many"])]
    assert ray.get([a.add.remote() for a in many]) == [1] * argument["many"]
    assert ray.get([a.add.remote() for a in many]) == [2] * argument["many"]
    for a in many[::2]:
        ray.kill(a)
    for i, a in enumerate(many):
        try:
            assert ray.get(a.add.remote()) == 3 and i % 2 == 1
        except ActorDiedError:
            assert i % 2 == 0
    del many, a, bad
    until(lambda: not any(w["actor"] for w in state("workers")), "actors without handles end")
    ray.shutdown()
    say("end")
    """
    run(world, code, {"kills": count(5, 50), "many": count(100, 500)})


def test_beyond_the_process_cap(world):
    """An error that names the chain, where there would be a hang."""
    code = """
    start(num_cpus=1)

    @ray.remote(max_retries=0)
    def endless(n):
        return ray.get(endless.remote(n + 1))

    message = ""
    try:
        ray.get(endless.remote(0))
    except ray.exceptions.RayError as e:
        message = str(e)
    assert "endless" in message and "->" in message, message[-3000:]
    say("error", message=message[-1000:])

    @ray.remote
    def one():
        return 1

    assert ray.get(one.remote()) == 1
    ray.shutdown()
    say("end")
    """
    driver = world.start(code)
    driver.hear("error")
    driver.hear("end")
    driver.finish()
