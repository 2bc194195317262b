# SPDX-License-Identifier: Apache-2.0
"""Connections between driver and workers, and between workers, that break all the time.

Every process has a thread that shuts down its own connections with other ones, old and just made.
Nobody dies of it: every result is right, whatever was asked for is done once and in order, though
nothing may be done again, and in the end everything is given back.
"""

import os
import signal
import time

from worlds import count, in_role

# Runs in the driver and, as each task or actor begins there, in every worker.
CUTTER = """
def end_of(name):
    '''(socket, pid of the other end) if that descriptor is a connection with a process of ours.'''
    end = fd = None
    try:
        fd = os.dup(int(name))
        end = socket.socket(fileno=fd)
        if end.family != socket.AF_UNIX or end.type != socket.SOCK_STREAM:
            raise OSError
        peer = end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 3 * 4)
        pid = int.from_bytes(peer[:4], "little")
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            command = file.read()
        if pid == os.getpid() or not (command.startswith(b"ray::") or b"program" in command):
            raise OSError  # a daemon's: those aren't resumed
        return end, pid
    except OSError:
        if end is not None:
            end.close()
        elif fd is not None:
            os.close(fd)
        return None

def cut_on(config):
    rng = random.Random(config["seed"] ^ os.getpid())
    log = os.open(config["path"] + "/cuts", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    old = set()
    while not os.path.exists(config["path"] + "/stop"):
        time.sleep(rng.choice(config["pauses"]) * rng.random())
        ends = [e for e in map(end_of, os.listdir("/proc/self/fd")) if e]
        made = [e for e in ends if os.fstat(e[0].fileno()).st_ino not in old]
        old = {os.fstat(e[0].fileno()).st_ino for e in ends}
        if made and rng.random() < 0.5:
            chosen = made
        else:
            chosen = ends if rng.random() < 0.1 else ends and [rng.choice(ends)]
        for end, _ in chosen:
            try:
                end.shutdown(rng.choice([socket.SHUT_RDWR] * 4 + [socket.SHUT_RD, socket.SHUT_WR]))
                os.write(log, b"x")
            except OSError:
                pass
        for end, _ in ends:
            end.close()
    os.close(log)

def cutting():
    '''The thread of this process, if it is to have one.'''
    if not getattr(ray, "_cutter", None) and os.path.exists(config["path"] + "/go"):
        ray._cutter = threading.Thread(target=cut_on, args=(config,), daemon=True)
        ray._cutter.start()

def mark(path, what):
    with open(path, "a") as file:
        file.write(f"{what}\\n")

def cuts():
    path = config["path"] + "/cuts"
    return os.path.getsize(path) if os.path.exists(path) else 0

config = {"seed": argument["seed"], "path": argument["path"], "pauses": argument["pauses"]}
"""

LOAD = (
    CUTTER
    + """
from ray.exceptions import TaskCancelledError
rng = random.Random(argument["seed"])
done_path = argument["path"] + "/done"
tallies = 0

@ray.remote(max_retries=0)
def square(number, x):
    cutting()
    mark(done_path, number)
    return x * x

@ray.remote
def fill(number, x, size):
    cutting()
    mark(done_path, number)
    return np.full(size, x, dtype=np.int64)

@ray.remote
def total(number, array, *others):
    cutting()
    mark(done_path, number)
    assert (array == array[0]).all()
    return int(array[0]) + sum(others)

@ray.remote(max_retries=0)
def nested(number, x, depth):
    cutting()
    mark(done_path, number)
    if depth == 0:
        return x
    low = [nested.remote(f"{number}.{i}", x + i, depth - 1) for i in range(3)]
    return sum(ray.get(low))

@ray.remote(max_retries=0)
def yields(number, x, n, size):
    cutting()
    mark(done_path, number)
    for i in range(n):
        yield np.full(size, x + i, dtype=np.int64)

@ray.remote(max_retries=0)
def sleeps(path, x):
    cutting()
    mark(path, x)
    while True:
        time.sleep(0.01)

# ---- lent references ----

def look(box):
    found = []
    for item in box:
        if isinstance(item, ray.ObjectRef):
            item = ray.get(item)
            if isinstance(item, np.ndarray):
                assert (item == item[0]).all(), "freed too early"
                found.append(int(item[0]))
                continue
        found += look(item) if isinstance(item, (list, tuple)) else [item]
    return found

@ray.remote(max_retries=0)
def read(box):
    cutting()
    return look(box)

@ray.remote(max_retries=0)
def wrap(box):
    cutting()
    return [ray.put(list(box))]

@ray.remote(max_retries=0)
def make(numbers, size):
    cutting()
    return [ray.put(np.full(size, n, dtype=np.int64)) for n in numbers]

@ray.remote(max_retries=0)
def relay(box, depth):
    cutting()
    return look(box) if depth == 0 else ray.get(relay.remote(box, depth - 1))

@ray.remote(num_cpus=0)
class Keeper:
    def __init__(self):
        cutting()
        self.boxes = []
    def keep(self, box):
        cutting()
        self.boxes.append(box)
    def lend(self):
        return self.boxes.pop(0)

# ---- actors: what they did is also counted outside ----

@ray.remote(num_cpus=0, max_task_retries=0)
class Tally:
    def __init__(self, path):
        cutting()
        self.path = path
        self.lock = threading.Lock()
    def add(self, who, n, body=None):
        with self.lock:
            mark(self.path, f"{who} {n}")
        return n if body is None else body
    def yields(self, n, size):
        for i in range(n):
            yield np.full(size, i, dtype=np.int64)

@ray.remote(num_cpus=0, max_concurrency=20)
class Async:
    def __init__(self, path):
        cutting()
        self.path = path
    async def add(self, who, n):
        mark(self.path, f"{who} {n}")
        import asyncio
        await asyncio.sleep(0.001 * (n % 3))
        return n

@ray.remote(max_retries=0)
def caller(tally, who, n):
    cutting()
    refs = [tally.add.remote(who, i) for i in range(n)]
    assert ray.get(refs) == list(range(n))
    return who

def check_tally(path, expected, in_order):
    told = {}
    with open(path) as file:
        for line in file:
            who, n = line.split()
            told.setdefault(who, []).append(int(n))
    for who, n in expected.items():
        got = told.pop(who)
        assert (got if in_order else sorted(got)) == list(range(n)), (who, got)
    assert not told, told
    os.unlink(path)

def actors(rng, small):
    global tallies
    tallies += 1
    path = f"{argument['path']}/tally{tallies}"
    name = f"name{tallies}"
    tally = Tally.options(name=name).remote(path)
    threaded = Tally.options(max_concurrency=4).remote(path + "t")
    asyncs = Async.remote(path + "a")
    n = rng.randrange(20, 200)
    body = np.arange(rng.choice([10, 1000, 5000, 12000, 60_000]))
    callers = [caller.remote(tally, f"c{i}", n) for i in range(3)]
    refs = [ray.get_actor(name).add.remote("d", i) for i in range(n)]
    bodies = [tally.add.remote("b", i, body) for i in range(10)]
    in_threads = [threaded.add.remote("t", i) for i in range(n)]
    in_loops = [asyncs.add.remote("a", i) for i in range(n)]
    in_turn = [caller.remote(t, "x", 40) for t in (threaded, asyncs)]
    stream = tally.yields.options(num_returns="streaming").remote(20, rng.choice([10, 5000]))
    for i in range(n if small else 3 * n):
        assert ray.get(tally.add.remote("s", i)) == i
    assert ray.get(callers) == [f"c{i}" for i in range(3)]
    assert ray.get(refs) == list(range(n))
    for b in ray.get(bodies):
        assert (b == body).all()
    assert ray.get(in_threads) == list(range(n)) and ray.get(in_loops) == list(range(n))
    assert ray.get(in_turn) == ["x", "x"]
    assert [int(ray.get(item)[0]) for item in stream] == list(range(20))
    expected = {"d": n, "b": 10, "s": n if small else 3 * n, "c0": n, "c1": n, "c2": n}
    check_tally(path, expected, True)
    check_tally(path + "t", {"t": n, "x": 40}, False)
    check_tally(path + "a", {"a": n, "x": 40}, False)

def tasks(rng):
    open(done_path, "w").close()
    base = rng.randrange(1000)
    squares = [square.remote(f"s{i}", base + i) for i in range(100)]
    size = rng.choice([10, 2000, 9000, 60_000])
    fills = [fill.remote(f"f{i}", base + i, size) for i in range(8)]
    totals = [total.remote(f"t{i}", b, s) for i, (b, s) in enumerate(zip(fills, squares))]
    nests = [nested.remote(f"n{i}", base, 3) for i in range(3)]
    streams = [yields.remote(f"y{i}", base, 15, rng.choice([10, 5000, 30_000])) for i in range(3)]
    left = list(squares)
    while left:
        soon = rng.choice([None, 0.01])
        ready, left = ray.wait(left, num_returns=min(len(left), 7), timeout=soon)
    assert ray.get(squares) == [(base + i) ** 2 for i in range(100)]
    assert ray.get(totals) == [base + i + (base + i) ** 2 for i in range(8)]
    for i, ref in enumerate(fills):
        array = ray.get(ref)
        assert array.size == size and (array == base + i).all()
    assert ray.get(nests) == [27 * base + 27 * 3] * 3
    for stream in streams:
        assert [int(ray.get(item)[0]) for item in stream] == list(range(base, base + 15))
    with open(done_path) as file:
        done = sorted(file.read().split())
    assert len(done) == 100 + 16 + 3 * 40 + 3 and len(set(done)) == len(done), "not once each"

def cancels(rng):
    path = argument["path"] + "/begun"
    open(path, "w").close()
    refs = [sleeps.remote(path, i) for i in range(4)]
    if rng.random() < 0.7:
        until(lambda: os.path.getsize(path) > 0, "one has begun")
    for ref in refs:
        ray.cancel(ref)
    for ref in refs:
        try:
            raise AssertionError(f"no error but {ray.get(ref)}")
        except TaskCancelledError:
            pass

def lends(rng, keepers, references):
    reads = []
    while references > 0:
        n = rng.randrange(1, 5)
        references -= n
        numbers = [rng.randrange(10**9) for _ in range(n)]
        size = rng.choice([1, 100, 5000, 20_000])
        if rng.random() < 0.5:
            box = [ray.put(np.full(size, i, dtype=np.int64)) for i in numbers]
        else:
            box = [make.remote(numbers, size)]
        for _ in range(rng.randrange(4)):
            what = rng.randrange(5)
            references -= 1
            if what == 0:
                box = [ray.put(list(box))]
            elif what == 1:
                box = [wrap.remote(box)]
            elif what == 2:
                reads.append((numbers, read.remote(box)))
            elif what == 3:
                reads.append((numbers, relay.remote(box, 2)))
            else:
                keeper = rng.choice(keepers)
                keeper.keep.remote(box)
                box = [keeper.lend.remote()]
        reads.append((numbers, read.remote(box)))
        del box
        rng.shuffle(reads)
        while len(reads) > 8:
            numbers, ref = reads.pop()
            assert sorted(ray.get(ref)) == sorted(numbers)
            del ref
    for numbers, ref in reads:
        assert sorted(ray.get(ref)) == sorted(numbers)

def batch():
    keepers = [Keeper.remote() for _ in range(2)]
    parts = [lambda: actors(rng, rng.random() < 0.5), lambda: tasks(rng), lambda: cancels(rng),
             lambda: lends(rng, keepers, argument["references"])]
    rng.shuffle(parts)
    for part in parts:
        part()

def quiet():
    import gc
    gc.collect()
    until(lambda: state("leases")["leases"] == 0 and state("leases")["pending_units"] == 0,
          "all leases come back")
    until(lambda: state("store")["objects"] == 0 and state("store")["dying"] == 0,
          "all objects are freed")
    until(lambda: ray.available_resources()["CPU"] == ray.cluster_resources()["CPU"],
          "all processors are free")
    until(lambda: not any(w["actor"] for w in state("workers")), "the actors end")
    until(lambda: sum(w["worker_type"] == "WORKER" for w in state("workers")) <= 2,
          "processes beyond the processors end")
    until(lambda: not state("references"), "no reference is known here")
    return len(os.listdir("/proc/self/fd"))

start(num_cpus=2, object_store_memory=200_000_000)
batch()
before = quiet()
mark(argument["path"] + "/go", "")
cutting()
while cuts() < argument["cuts"]:
    batch()
    say("batch", cuts=cuts(), fds=len(os.listdir("/proc/self/fd")))
mark(argument["path"] + "/stop", "")
ray._cutter.join()
batch()
after = quiet()
say("quiet", before=before, after=after, cuts=cuts())
ray.shutdown()
say("end")
"""
)


def run(world, code, rng, **argument):
    """To the end of a program; says what it said last."""
    argument = {"seed": rng.getrandbits(31), "path": world.path, **argument}
    driver = world.start(code, argument)
    while (said := driver.hear(seconds=180))["what"] == "batch":
        print(said)
    driver.hear("end")
    driver.finish()
    assert "connection with a peer ended" not in driver.errors(), driver.errors()
    return said


def test_everything_goes_on(world, rng):
    """Results, calls that may not be made again, lent references, generators, cancelled tasks."""
    said = run(world, LOAD, rng, cuts=count(400, 20_000), references=count(60, 400),
               pauses=[0.001, 0.01, 0.05])
    print(said)
    assert said["after"] <= said["before"] + 4, said


# Workers that end of themselves, and others that are killed, while connections break.
DEATHS = (
    CUTTER
    + """
from ray.exceptions import ActorDiedError, RayActorError, WorkerCrashedError
rng = random.Random(argument["seed"])

@ray.remote(max_calls=1, max_retries=0)
def once(x, size):
    cutting()
    return np.full(size, x, dtype=np.int64)

@ray.remote(max_retries=-1)
def square(x):
    cutting()
    return x * x

@ray.remote(max_retries=-1)
def nested(x):
    cutting()
    return sum(ray.get([square.remote(i) for i in range(x, x + 5)]))

@ray.remote(max_retries=-1)
def holds(x, path):
    '''A child of this process has its sockets, also its listener, and lives on after it.'''
    cutting()
    ends = [e[0] for e in map(end_of, os.listdir("/proc/self/fd")) if e]
    for name in os.listdir("/proc/self/fd"):
        try:
            fd = os.dup(int(name))
            end = socket.socket(fileno=fd)
            if end.family == socket.AF_UNIX:
                ends.append(end)
        except OSError:
            pass
    child = os.fork()
    if child == 0:
        signal.pause()
        os._exit(0)
    mark(path, child)
    ends.clear()
    return x

@ray.remote(num_cpus=0, max_task_retries=0)
class Tally:
    def __init__(self, path):
        cutting()
        self.path = path
    def pid(self):
        return os.getpid()
    def add(self, n):
        mark(self.path, n)
        return n
    def leave(self):
        ray.actor.exit_actor()

def leaves(path):
    '''What an actor did before it left is answered.'''
    actor = Tally.remote(path)
    refs = [actor.add.remote(n) for n in range(30)]
    last = actor.leave.remote()
    try:
        raise AssertionError(f"no error but {ray.get(last)}")
    except ActorDiedError as e:
        assert "exit" in str(e), e
    answered = 0
    for n, ref in enumerate(refs):
        try:
            assert ray.get(ref) == n
            answered += 1
        except ActorDiedError:
            lost["last words"] += 1
    with open(path) as file:
        assert file.read().split() == [str(n) for n in range(30)]
    os.unlink(path)

def killed(path):
    '''Each call once at most, in order; those that were answered were done.'''
    actor = Tally.options(max_restarts=0).remote(path)
    pid = ray.get(actor.pid.remote())
    refs = [actor.add.remote(n) for n in range(60)]
    time.sleep(rng.random() * 0.02)
    os.kill(pid, signal.SIGKILL)
    answered = []
    for n, ref in enumerate(refs):
        try:
            answered.append(ray.get(ref))
        except RayActorError:
            pass
    with open(path, "a+") as file:
        file.seek(0)
        done = [int(n) for n in file.read().split()]
    assert done == list(range(len(done))) and answered == list(range(len(answered)))
    assert len(answered) <= len(done)
    os.unlink(path)

def stopped(path):
    '''A process that takes nothing for a while, its connections broken meanwhile.'''
    actor = Tally.remote(path)
    pid = ray.get(actor.pid.remote())
    refs = [actor.add.remote(n) for n in range(40)]
    os.kill(pid, signal.SIGSTOP)
    broken = 0
    refs += [actor.add.remote(n) for n in range(40, 80)]
    for name in os.listdir("/proc/self/fd"):
        end = end_of(name)
        if end and end[1] == pid:
            try:
                end[0].shutdown(socket.SHUT_RDWR)
                broken += 1
            except OSError:
                pass
        if end:
            end[0].close()
    refs += [actor.add.remote(n) for n in range(80, 120)]
    ray.wait(refs[-1:], timeout=rng.random() * 0.2)
    os.kill(pid, signal.SIGCONT)
    assert ray.get(refs) == list(range(120))
    with open(path) as file:
        assert file.read().split() == [str(n) for n in range(120)]
    os.unlink(path)
    return broken

lost = {"last words": 0}
number = 0

def batch():
    global number
    number += 1
    path = f"{argument['path']}/tally{number}"
    base = rng.randrange(1000)
    only = [once.remote(base + i, rng.choice([10, 5000, 50_000])) for i in range(6)]
    nests = [nested.remote(base + i) for i in range(6)]
    held = [holds.remote(base + i, argument["path"] + "/children") for i in range(2)]
    say("under way")
    parts = [lambda: leaves(path + "l"), lambda: killed(path + "k"), lambda: stopped(path + "s")]
    rng.shuffle(parts)
    for part in parts:
        part()
    assert ray.get(nests) == [sum(j * j for j in range(base + i, base + i + 5)) for i in range(6)]
    assert ray.get(held) == [base, base + 1]
    crashed = 0
    for i, ref in enumerate(only):
        try:
            array = ray.get(ref)
            assert (array == base + i).all()
        except WorkerCrashedError:
            crashed += 1
    assert crashed <= argument["kills"], crashed
    return crashed

start(num_cpus=2, object_store_memory=200_000_000)
mark(argument["path"] + "/go", "")
cutting()
for _ in range(argument["batches"]):
    crashed = batch()
    say("batch", cuts=cuts(), crashed=crashed, lost=lost)
    hear()
mark(argument["path"] + "/stop", "")
ray._cutter.join()
import gc
gc.collect()
until(lambda: state("leases")["leases"] == 0 and state("leases")["pending_units"] == 0,
      "all leases come back")
until(lambda: state("store")["objects"] == 0 and state("store")["dying"] == 0, "objects are freed")
until(lambda: ray.available_resources()["CPU"] == ray.cluster_resources()["CPU"],
      "all processors are free")
until(lambda: not any(w["actor"] for w in state("workers")), "the actors end")
until(lambda: not state("references"), "no reference is known here")
say("quiet", cuts=cuts(), lost=lost)
ray.shutdown()
say("end")
"""
)


def deaths(world, rng, kills):
    argument = {"seed": rng.getrandbits(31), "path": world.path, "pauses": [0.001, 0.01, 0.05],
                "batches": count(6, 150), "kills": kills}
    driver = world.start(DEATHS, argument)
    while (said := driver.hear(seconds=180))["what"] != "quiet":
        if said["what"] == "batch":
            print(said)
            driver.tell("go")
            continue
        for _ in range(rng.randrange(kills + 1)):
            time.sleep(rng.random() * 0.05)
            names = ("ray::once", "ray::square", "ray::nested", "ray::holds")
            if found := [p for p in in_role("worker") if p.command.startswith(names)]:
                rng.choice(found).kill()
    print(said)
    with open(world.path + "/children", encoding="ascii") as file:
        for pid in map(int, file.read().split()):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
    driver.hear("end")
    driver.finish()
    return said


def test_with_processes_that_end_of_themselves(world, rng):
    """Workers of max_calls, actors that leave or are stopped, children that hold sockets."""
    deaths(world, rng, 0)


def test_with_processes_that_are_killed(world, rng):
    deaths(world, rng, 3)


def test_without_a_descriptor_for_a_new_socket(world):
    """It waits for one."""
    code = (
        CUTTER
        + """
    import resource
    start(num_cpus=2)

    @ray.remote(num_cpus=0, max_task_retries=0)
    class Tally:
        def __init__(self):
            self.n = 0
        def add(self):
            self.n += 1
            return self.n

    actor = Tally.remote()
    assert ray.get(actor.add.remote()) == 1
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for n in range(5):
        ends = [e for e in map(end_of, os.listdir("/proc/self/fd")) if e]
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        for end, _ in ends:
            end.shutdown(socket.SHUT_RDWR)
            end.close()
        ref = actor.add.remote()
        ray.wait([ref], timeout=0.1)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert ray.get(ref) == n + 2
    del actor, ref
    ray.shutdown()
    say("end")
    """.replace("\n    ", "\n")
    )
    driver = world.start(code, {"seed": 1, "path": world.path, "pauses": [0]})
    driver.hear("end")
    driver.finish()
