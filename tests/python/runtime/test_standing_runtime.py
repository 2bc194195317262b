# SPDX-License-Identifier: Apache-2.0
"""A runtime that `ray start` started: several drivers, detached actors, and that nothing is left.

Each test has directories of its own for sockets and sessions, so that runtimes of other tests, and
of whoever runs them, are neither seen nor stopped.
"""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time

import pytest
import ray
from common import until

RAY = str(pathlib.Path(sys.executable).with_name("ray"))


class Runtime:
    """A standing runtime and the programs that use it."""

    def __init__(self):
        self.run_dir = tempfile.mkdtemp(prefix="nm-", dir="/tmp")  # short: sockets lie in it
        self.temp_dir = tempfile.mkdtemp(prefix="ray-standing-")
        os.chmod(self.run_dir, 0o700)
        self.env = {
            **os.environ,
            "XDG_RUNTIME_DIR": self.run_dir,
            "RAY_TMPDIR": self.temp_dir,
        }
        self.env.pop("RAY_ADDRESS", None)
        self.drivers = []

    def ray(self, *arguments, check=True):
        """Runs the command; its result."""
        done = subprocess.run(
            [RAY, *arguments], capture_output=True, text=True, timeout=60, env=self.env, check=False
        )
        if check:
            assert done.returncode == 0, done.stdout + done.stderr
        return done

    def start(self, *arguments):
        return self.ray("start", "--head", "--num-cpus=2", *arguments)

    def driver(self, code, *arguments, **env):
        """Starts a program; what it prints is read with `line`."""
        process = subprocess.Popen(
            [sys.executable, "-u", "-c", PRELUDE + textwrap.dedent(code), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**self.env, **env},
        )
        self.drivers.append(process)
        return process

    def run(self, code, *arguments, **env):
        """Runs a program to its end; what it printed, as JSON of its last line."""
        process = self.driver(code, *arguments, **env)
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0, out
        return json.loads(out.splitlines()[-1]) if out.strip() else None

    def address(self):
        return (pathlib.Path(self.temp_dir) / "ray_current_cluster").read_text()

    def processes(self):
        """Numbers of all processes of the runtime and of its programs, by their environment."""
        mark = f"XDG_RUNTIME_DIR={self.run_dir}".encode()
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    with open(f"/proc/{entry}/environ", "rb") as f:
                        if mark in f.read().split(b"\0"):
                            found.append(int(entry))
                except OSError:
                    continue
        return found

    def left(self):
        """What there is of the runtime: processes and files but logs."""
        base = pathlib.Path(self.run_dir) / "ray-c"
        files = [str(p) for p in base.iterdir()] if base.exists() else []
        current = pathlib.Path(self.temp_dir) / "ray_current_cluster"
        return self.processes(), files, current.exists()

    def close(self):
        for process in self.drivers:
            if process.poll() is None:
                process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
        self.ray("stop", "--force", check=False)
        until(lambda: not self.processes())
        shutil.rmtree(self.run_dir)
        shutil.rmtree(self.temp_dir)


# The class is in the program itself: it travels by value, and needs no file of the driver's.
PRELUDE = """
import json, os, signal, sys, time
import ray

def say(value):
    print(json.dumps(value), flush=True)

@ray.remote
class Counter:
    def __init__(self, start=0):
        self.value = start
    def add(self, n=1):
        self.value += n
        return self.value
    def pid(self):
        return os.getpid()
"""


def line(process):
    """The next thing that a driver says."""
    return json.loads(process.stdout.readline())


def tell(process, text="go"):
    """Lets a driver that reads its input go on."""
    process.stdin.write(text + "\n")
    process.stdin.flush()


@pytest.fixture
def runtime():
    made = Runtime()
    yield made
    made.close()


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# ---- the command -----------------------------------------------------------------------------


def test_start_status_stop(runtime):
    none = runtime.ray("status", check=False)
    assert none.returncode == 1
    assert "Could not find any running Ray instance" in none.stderr
    assert "Did not find any active Ray processes." in runtime.ray("stop").stdout
    started = runtime.start("--resources", '{"special": 2}', "--port=6379")
    assert "Local node IP" in started.stdout
    assert "Ray runtime started." in started.stdout
    assert runtime.address() in started.stdout
    twice = runtime.ray("start", "--head", check=False)
    assert twice.returncode == 1
    assert "already running" in twice.stderr
    status = runtime.ray("status").stdout
    for text in ("Node status", "Active:", "0.0/2.0 CPU", "0.0/2.0 special", "no resource demands"):
        assert text in status
    assert "node:" not in status
    stopped = runtime.ray("stop").stdout
    assert stopped.startswith("Stopped all ")
    assert runtime.left() == ([], [], False)


@pytest.mark.parametrize("how", [[], ["--force"], ["-g", "0"]])
def test_stop_leaves_nothing(runtime, how):
    runtime.start()
    driver = runtime.driver(
        """
        ray.init(address="auto")
        counters = [Counter.remote() for _ in range(2)]
        kept = Counter.options(name="kept", lifetime="detached").remote()
        big = ray.put(b"x" * (1 << 22))
        say(ray.get([c.add.remote() for c in counters + [kept]]))
        try:
            while True:
                ray.get(kept.add.remote())
        except Exception as error:
            say(type(error).__name__)
        os._exit(0)
        """
    )
    assert line(driver) == [1, 1, 1]
    assert "Stopped all" in runtime.ray("stop", *how).stdout
    assert line(driver) in ("LocalRayletDiedError", "ActorDiedError", "ActorUnavailableError")
    driver.wait(timeout=60)
    assert runtime.left() == ([], [], False)


def test_what_is_not_built_says_so(runtime):
    for arguments in (
        ["--head", "--node-ip-address=1.2.3.4"],
        ["--head", "--include-dashboard=true"],
        ["--address=1.2.3.4:6379"],
        ["--head", "--no-monitor"],
    ):
        done = runtime.ray("start", *arguments, check=False)
        assert done.returncode == 1
        assert "not built yet" in done.stderr
    assert "not built yet" in runtime.ray("list", "actors", check=False).stderr
    assert runtime.ray("nonsense", check=False).returncode == 2
    assert "Usage" in runtime.ray("start", "--help").stdout
    assert runtime.left() == ([], [], False)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "--address"),
        (["--what"], "unrecognized option '--what'\nTry 'ray start --help'"),
        (["--head", "--num-cpus=many"], "'many' is not a valid number"),
        (["--head", "--num-cpus=99999999999999999"], "too much"),
        (["--head", "--resources=x"], "not a JSON string"),
        (["--head", '--resources={"a": 1,}'], "not a JSON string"),
        (["--head", '--resources={"a": nan}'], "not a JSON string"),
        (["--head", '--resources={"a": 0x1p3}'], "not a JSON string"),
        (["--head", '--resources={"": 1}'], "not a JSON string"),
        (["--head", '--resources={"a": -1}'], "can't hold"),
        (["--head", '--resources={"a": 1e300}'], "can't hold"),
        (["--head", '--resources={"\\u0043PU": 1}'], "can't hold"),
        (["--head", "--object-store-memory=5"], "at least 78643200"),
        (["--head", "--temp-dir=relative"], "must be absolute"),
        (["--head", "more"], "unexpected extra argument (more)"),
    ],
    ids=str,
)
def test_wrong_arguments_are_told(runtime, arguments, text):
    done = runtime.ray("start", *arguments, check=False)
    assert done.returncode in (1, 2) and text in done.stderr
    assert runtime.left() == ([], [], False)


def test_names_of_resources_are_json(runtime):
    runtime.start("--resources", r'{"a\"b \\ \u00e4": 0.5}')
    name = 'a"b \\ ä'
    assert f"0.0/0.5 {name}" in runtime.ray("status").stdout
    assert runtime.run("ray.init(); say(ray.cluster_resources())")[name] == 0.5


def test_wrong_addresses_are_told(runtime):
    for address, text in (
        ("/nobody", "answers at /nobody"),
        ("/" + "x" * 300, "answers at /xxx"),
        ("1.2.3.4:6379", "not built yet"),
    ):
        done = runtime.ray("status", "--address", address, check=False)
        assert done.returncode == 1 and text in done.stderr


def test_without_standard_descriptors(runtime):
    command = f"exec {RAY} start --head --num-cpus=1 <&- >&- 2>&-"
    assert subprocess.run(command, shell=True, env=runtime.env, check=False).returncode == 0
    assert "1.0 CPU" in runtime.ray("status").stdout


def test_only_one_of_those_started_at_once_stands(runtime):
    starts = [
        subprocess.Popen(
            [RAY, "start", "--head", "--num-cpus=1"], stdout=subprocess.DEVNULL, env=runtime.env
        )
        for _ in range(4)
    ]
    assert sorted(process.wait(60) for process in starts) == [0, 1, 1, 1]


def test_stop_finds_what_drivers_would_join(runtime):
    runtime.start()
    with tempfile.TemporaryDirectory(dir="/tmp") as other:
        done = subprocess.run(
            [RAY, "stop"], env={**runtime.env, "XDG_RUNTIME_DIR": other}, capture_output=True,
            text=True, check=False,
        )
        assert "Stopped all" in done.stdout
        assert runtime.left() == ([], [], False)
        # Nor does it leave the address of a dead one.
        current = pathlib.Path(runtime.temp_dir) / "ray_current_cluster"
        current.write_text("/nobody/raylet")
        assert "Did not find any" in runtime.ray("stop").stdout
        assert not current.exists() and os.listdir(other) == []


def test_block_ends_with_the_signal(runtime):
    process = subprocess.Popen(
        [RAY, "start", "--head", "--num-cpus=1", "--block"],
        stdout=subprocess.PIPE,
        text=True,
        env=runtime.env,
    )
    runtime.drivers.append(process)
    while "--block" not in process.stdout.readline():
        pass
    assert runtime.run("ray.init('auto'); say(ray.cluster_resources()['CPU'])") == 1
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 0
    assert runtime.left() == ([], [], False)


def test_block_tells_of_a_death(runtime):
    process = subprocess.Popen(
        [RAY, "start", "--head", "--num-cpus=1", "--block"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=runtime.env,
    )
    runtime.drivers.append(process)
    while "--block" not in process.stdout.readline():
        pass
    os.kill(raylet_pid(runtime), signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "exited unexpectedly" in err
    assert runtime.left() == ([], [], False)


def raylet_pid(runtime):
    """The raylet: the child of a process of the same name."""
    for pid in runtime.processes():
        with open(f"/proc/{pid}/comm") as f:
            name = f.read().strip()
        with open(f"/proc/{pid}/stat") as f:
            parent = int(f.read().rsplit(")", 1)[1].split()[1])
        if name == "raylet" and parent != 1:
            try:
                with open(f"/proc/{parent}/comm") as f:
                    if f.read().strip() == "raylet":
                        return pid
            except OSError:
                continue
    raise AssertionError("no raylet")


# ---- joining ---------------------------------------------------------------------------------

WHERE = """
    import ray.exceptions
    context = ray.init(*[a for a in sys.argv[1:]])
    assert ray.get_runtime_context().gcs_address == context.address_info["address"]
    say(context.address_info["address"])
"""


def test_the_search_order(runtime):
    assert runtime.run(WHERE) != runtime.temp_dir  # none stands: one of its own
    none = "\ntry:\n    ray.init(address='auto')\nexcept ConnectionError:\n    say(True)"
    assert runtime.run(none)
    runtime.start()
    address = runtime.address()
    assert runtime.run(WHERE) == address
    assert runtime.run(WHERE, "auto") == address
    assert runtime.run(WHERE, address) == address
    assert runtime.run(WHERE, "local") != address
    assert runtime.run(WHERE, RAY_ADDRESS="local") != address
    assert runtime.run(WHERE, RAY_ADDRESS=address, RAY_TMPDIR="/tmp/ray") == address
    assert runtime.run(WHERE, "auto", RAY_ADDRESS=address, RAY_TMPDIR="/tmp/ray") == address
    assert runtime.run(
        """
        for bad in ("/tmp/nobody", "1.2.3.4:6379", "ray://x:1"):
            try:
                ray.init(address=bad)
            except (ConnectionError, NotImplementedError) as error:
                print(error)
            else:
                sys.exit(1)
        for given in ({"num_cpus": 1}, {"num_gpus": 1}, {"object_store_memory": 10**8}):
            try:
                ray.init(**given)
            except ValueError as error:
                assert "existing cluster" in str(error)
            else:
                sys.exit(1)
        say(True)
        """
    )
    assert runtime.address() == address
    runtime.ray("status", "--address", address)


def test_a_file_of_a_dead_runtime_is_not_heeded(runtime):
    path = pathlib.Path(runtime.temp_dir) / "ray_current_cluster"
    path.write_text(runtime.run_dir + "/ray-c/00000000/raylet")
    assert runtime.run(WHERE) != path.read_text()
    assert runtime.ray("status", check=False).returncode == 1
    runtime.start()
    assert runtime.run(WHERE) == runtime.address()


def test_shutdown_leaves_the_runtime(runtime):
    runtime.start()
    first = runtime.run(
        """
        jobs = []
        for _ in range(3):
            ray.init(address="auto")
            assert ray.cluster_resources()["CPU"] == 2
            assert ray.get(ray.remote(lambda: 5).remote()) == 5
            jobs.append(ray.get_runtime_context().get_job_id())
            ray.shutdown()
            assert not ray.is_initialized()
        say(jobs)
        """
    )
    assert len(set(first)) == 3
    assert "0.0/2.0 CPU" in runtime.ray("status").stdout


# ---- detached actors -------------------------------------------------------------------------


def test_a_detached_actor_outlives_its_driver(runtime):
    runtime.start()
    pid = runtime.run(
        """
        ray.init(namespace="n")
        big = ray.put(41)
        a = Counter.options(name="d", lifetime="detached", max_restarts=-1).remote(big)
        say(ray.get(a.pid.remote()))
        """
    )
    use = """
        ray.init(namespace="n")
        a = ray.get_actor("d")
        say([ray.get(a.add.remote()), ray.get(a.pid.remote())])
        """
    assert runtime.run(use) == [42, pid]
    assert runtime.run(use) == [43, pid]
    # It starts again without its driver, and has its argument.
    os.kill(pid, signal.SIGKILL)
    value, other = runtime.run(
        """
        ray.init(namespace="n")
        while True:
            try:
                a = ray.get_actor("d")
                say([ray.get(a.add.remote()), ray.get(a.pid.remote())])
                break
            except ray.exceptions.ActorUnavailableError:
                pass
        """
    )
    assert (value, other != pid) == (42, True)
    assert runtime.run(
        """
        ray.init(namespace="n")
        ray.kill(ray.get_actor("d"))
        try:
            ray.get_actor("d")
        except ValueError:
            say(True)
        """
    )
    until(lambda: not is_alive(other))
    until(lambda: len(runtime.processes()) == 3)  # guard, raylet, ray-gcs


def test_it_needs_nothing_of_its_driver(runtime):
    """Class, large argument and a nested task come from a driver that was killed."""
    runtime.start()
    driver = runtime.driver(
        """
        ray.init(namespace="n")
        @ray.remote
        def square(x):
            return x * x
        @ray.remote(num_cpus=0, max_restarts=-1)
        class Keeper:
            def __init__(self, data):
                self.data = data
            def total(self):
                return sum(self.data) + ray.get(square.remote(3))
            def spawn(self):
                self.child = Counter.options(name="child", num_cpus=0).remote(10)
                return ray.get(self.child.add.remote())
            def pid(self):
                return os.getpid()
        k = Keeper.options(name="keeper", lifetime="detached").remote(bytes([1]) * 300000)
        say([ray.get(k.total.remote()), ray.get(k.pid.remote())])
        sys.stdin.readline()
        """
    )
    total, pid = line(driver)
    assert total == 300009
    driver.kill()
    driver.wait(timeout=60)
    use = """
        ray.init(namespace="n")
        k = ray.get_actor("keeper")
        say([ray.get(k.total.remote()), ray.get(k.spawn.remote())])
        """
    assert runtime.run(use) == [300009, 11]
    # What it made belongs to the ended job and lives all the same; and it can start again.
    child = "ray.init(namespace='n'); c = ray.get_actor('child'); say(ray.get(c.add.remote()))"
    assert runtime.run(child) == 12
    os.kill(pid, signal.SIGKILL)
    again = """
        ray.init(namespace="n")
        while True:
            try:
                k = ray.get_actor("keeper")
                say([ray.get(k.total.remote()), ray.get(k.spawn.remote())])
                break
            except (ray.exceptions.RayActorError, ValueError):
                pass
        """
    assert runtime.run(again) == [300009, 11]


def test_the_default_lifetime_of_a_job(runtime):
    runtime.start()
    runtime.run(
        """
        config = ray.job_config.JobConfig(default_actor_lifetime="detached")
        ray.init(namespace="n", job_config=config)
        @ray.remote
        def make():
            Counter.options(name="of-task").remote()
        Counter.options(name="of-driver").remote()
        Counter.options(name="counted", lifetime="non_detached").remote()
        ray.get(make.remote())
        """
    )
    names = "ray.init(namespace='n'); say(sorted(ray.util.list_named_actors()))"
    assert runtime.run(names) == ["of-driver", "of-task"]


def test_a_handle_of_a_detached_actor_travels(runtime):
    runtime.start()
    runtime.run(
        """
        ray.init(namespace="n")
        @ray.remote(num_cpus=0)
        class Holder:
            def hold(self, handles):
                self.handle = handles[0]
            def use(self):
                return ray.get(self.handle.add.remote())
        a = Counter.options(lifetime="detached", num_cpus=0).remote()  # without a name
        h = Holder.options(name="holder", lifetime="detached").remote()
        ray.get(h.hold.remote([a]))
        assert ray.get(h.use.remote()) == 1
        """
    )
    use = "ray.init(namespace='n'); h = ray.get_actor('holder'); say(ray.get(h.use.remote()))"
    assert [runtime.run(use) for _ in range(2)] == [2, 3]


# ---- several drivers -------------------------------------------------------------------------


def test_jobs_are_apart(runtime):
    """A driver that is killed takes its actors, tasks and objects along, and nobody else's."""
    runtime.start()
    code = """
        ray.init()
        a = Counter.options(name="mine", num_cpus=0).remote(int(sys.argv[1]))
        big = ray.put(b"x" * (1 << 23))
        @ray.remote(num_cpus=0)
        def forever():
            time.sleep(1000)
        running = forever.remote()
        say([ray.get(a.add.remote()), ray.get(a.pid.remote()), ray.util.list_named_actors(),
             ray.get_runtime_context().namespace])
        while sys.stdin.readline():
            assert len(ray.get(big)) == 1 << 23
            say(ray.get(a.add.remote()))
    """
    drivers = [runtime.driver(code, str(i * 100)) for i in range(2)]
    (one, pid_one, names, space_one), (two, pid_two, _, space_two) = [line(d) for d in drivers]
    assert (one, two, names) == (1, 101, ["mine"])
    assert space_one != space_two
    drivers[0].kill()
    drivers[0].wait(timeout=60)
    until(lambda: not is_alive(pid_one))
    tell(drivers[1])
    assert line(drivers[1]) == 102
    assert is_alive(pid_two)
    # Only its own things are left: one driver, its actor, its task, and the zygote.
    until(lambda: "8.00MiB" in runtime.ray("status").stdout)
    drivers[1].stdin.close()
    assert drivers[1].wait(timeout=60) == 0
    until(lambda: " 0B/" in runtime.ray("status").stdout)
    until(lambda: len(runtime.processes()) == 3)


def test_output_goes_to_its_own_driver(runtime):
    runtime.start()
    code = """
        ray.init()
        @ray.remote(num_cpus=0)
        def speak(text):
            print("it says", text)
        say("ready")
        sys.stdin.readline()
        ray.get([speak.remote(sys.argv[1] + str(i)) for i in range(5)])
        ray.shutdown()
    """
    # Lines that differ in their numbers alone count as repeated, unless told otherwise.
    drivers = [runtime.driver(code, name, RAY_DEDUP_LOGS="0") for name in ("red", "blue")]
    for driver in drivers:
        line(driver)
    for driver in drivers:
        tell(driver)
    red, blue = (d.communicate(timeout=60)[0] for d in drivers)
    assert all(f"it says red{i}" in red for i in range(5))
    assert all(f"it says blue{i}" in blue for i in range(5))
    assert "blue" not in red
    assert "red" not in blue


def test_nobody_is_starved(runtime):
    """A second driver's tasks and actors run while the first has thousands queued."""
    runtime.start()
    busy = runtime.driver(
        """
        ray.init()
        @ray.remote
        def work():
            time.sleep(0.005)
        refs = [work.remote() for _ in range(20000)]
        ray.get(refs[10])
        say("busy")
        sys.stdin.readline()
        say(len(ray.wait(refs, num_returns=len(refs), timeout=0)[1]))
        os._exit(0)
        """
    )
    assert line(busy) == "busy"
    assert runtime.run(
        """
        ray.init()
        @ray.remote
        def f(x):
            return x + 1
        a = Counter.options(num_cpus=1).remote()
        say([ray.get(f.remote(1)), ray.get(a.add.remote())])
        """
    ) == [2, 1]
    tell(busy)
    assert line(busy) > 0  # it had not ended


def test_two_drivers_create_one_name(runtime):
    """At once, a hundred times: one is told that the name is taken, and both find the same."""
    runtime.start()
    code = """
        ray.init(namespace="race")
        mine = {}
        while True:
            text = sys.stdin.readline().strip()
            if not text:
                break
            if text.startswith("get "):
                options = {"get_if_exists": True, "lifetime": "detached"}
                a = Counter.options(name=text[4:], num_cpus=0, **options).remote()
                say(a._actor_id.hex())
            elif text.startswith("drop "):
                mine.pop(text[5:], None)
                say(True)
            else:
                try:
                    mine[text] = Counter.options(name=text, num_cpus=0).remote()
                    say(True)
                except ValueError:
                    say(False)
    """
    drivers = [runtime.driver(code) for _ in range(2)]

    def both(text):
        for driver in drivers:
            tell(driver, text)
        return [line(driver) for driver in drivers]

    for i in range(100):
        assert sorted(both(f"name-{i}")) == [False, True]
        both(f"drop name-{i}")
        if i % 10 == 0:
            first, second = both(f"get shared-{i}")
            assert first == second


def test_a_driver_killed_while_it_creates(runtime):
    """Whenever it dies, its name is free again, or belongs to a living detached actor."""
    runtime.start()
    code = """
        ray.init(namespace="n")
        say("go")
        for i in range(10000):
            a = Counter.options(name=f"counted-{i}", num_cpus=0).remote()
            b = Counter.options(
                name=f"detached-{i}", num_cpus=0, lifetime="detached"
            ).remote(i)
            if i % 2:
                ray.kill(b)
    """
    for i in range(4):
        driver = runtime.driver(code)
        assert line(driver) == "go"
        time.sleep(0.05 * i)
        driver.kill()
        driver.wait(timeout=60)
        left = """
            ray.init(namespace="n")
            while any(n.startswith("counted") for n in ray.util.list_named_actors()):
                time.sleep(0.01)
            for name in ray.util.list_named_actors():
                a = ray.get_actor(name)
                assert ray.get(a.add.remote()) == int(name.split("-")[1]) + 1
                ray.kill(a)
            say(ray.util.list_named_actors())
        """
        assert runtime.run(left) == []
    until(lambda: len(runtime.processes()) == 3)


def test_ray_in_this_process_is_not_touched(runtime):
    """`ray stop` leaves runtimes that belong to a driver alone."""
    runtime.start()
    driver = runtime.driver(
        """
        ray.init(address="local", num_cpus=1)
        say(ray.get(ray.remote(lambda: 1).remote()))
        sys.stdin.readline()
        say(ray.get(ray.remote(lambda: 2).remote()))
        """
    )
    assert line(driver) == 1
    runtime.ray("stop")
    tell(driver)
    assert line(driver) == 2
    assert driver.wait(timeout=60) == 0
    assert not ray.is_initialized()


def test_detached_actors_and_the_control_service(runtime):
    """ray-gcs dies when no driver is there; names and actors are as before."""
    runtime.start()
    pid = runtime.run(
        """
        ray.init(namespace="n")
        a = Counter.options(name="d", lifetime="detached", max_restarts=-1).remote(5)
        say(ray.get(a.pid.remote()))
        """
    )
    use = """
        ray.init(namespace="n")
        while True:
            try:
                a = ray.get_actor("d")
                say([ray.get(a.add.remote()), ray.get(a.pid.remote())])
                break
            except ray.exceptions.ActorUnavailableError:
                pass
        """
    kill_gcs(runtime)
    assert runtime.run(use) == [6, pid]
    assert runtime.run(use) == [7, pid]
    os.kill(pid, signal.SIGKILL)
    kill_gcs(runtime)
    value, other = runtime.run(use)
    assert value == 6
    assert other != pid


def kill_gcs(runtime):
    """Kills ray-gcs and waits until another one is there."""

    def find():
        for pid in runtime.processes():
            try:
                with open(f"/proc/{pid}/comm") as f:
                    if f.read().strip() == "ray-gcs":
                        return pid
            except OSError:
                continue
        return None

    before = find()
    os.kill(before, signal.SIGKILL)
    until(lambda: find() not in (None, before))
