# SPDX-License-Identifier: Apache-2.0
"""init and shutdown; ends of the interpreter; what is left behind."""

import os
import queue
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time

import numpy as np
import pytest
import ray
from common import gcs_pid

pytestmark = pytest.mark.usefixtures("fresh")


def test_init_and_shutdown():
    assert not ray.is_initialized()
    context = ray.init(num_cpus=2)
    assert ray.is_initialized()
    assert context["node_id"] == context.address_info["node_id"] and "session_dir" in context
    assert os.path.isdir(context.address_info["session_dir"])
    assert context.ray_version == ray.__version__
    with pytest.raises(RuntimeError, match="Maybe you called ray.init twice by accident?"):
        ray.init()
    assert ray.init(ignore_reinit_error=True).address_info == context.address_info
    ray.shutdown()
    ray.shutdown()
    assert not ray.is_initialized()


def test_context_manager():
    with ray.init(num_cpus=1):
        assert ray.is_initialized()
    assert not ray.is_initialized()


def test_implicit_init():
    assert ray.get(ray.put(1)) == 1
    assert ray.is_initialized()


def test_implicit_init_by_many_threads_at_once():
    import threading

    barrier = threading.Barrier(4)
    results = []

    def first_call(i):
        barrier.wait()
        results.append(ray.get(ray.put(i)))

    threads = [threading.Thread(target=first_call, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(results) == [0, 1, 2, 3]


def test_init_by_many_threads_at_once():
    together = threading.Barrier(4)
    outcomes = queue.SimpleQueue()

    def start():
        together.wait()
        try:
            outcomes.put(ray.init(num_cpus=1))
        except RuntimeError as exc:
            outcomes.put(exc)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    refused = [o for o in (outcomes.get() for _ in threads) if isinstance(o, RuntimeError)]
    assert len(refused) == 3 and all("ray.init twice" in str(exc) for exc in refused)
    assert ray.is_initialized() and ray.get(ray.put(1)) == 1


class StartsWithin(os.PathLike):
    """What a signal's handler or a finalizer may do, at a moment that is known."""

    def __init__(self, path, call):
        self.path, self.call = str(path), call

    def __fspath__(self):
        self.call()
        return self.path


@pytest.mark.parametrize("call", [lambda: ray.init(num_cpus=1), lambda: ray.put(1)])
def test_init_within_init(tmp_path, call):
    with pytest.raises(RuntimeError, match="while this thread is starting Ray"):
        ray.init(num_cpus=1, _temp_dir=StartsWithin(tmp_path, call))
    assert not ray.is_initialized()
    ray.init(num_cpus=1)
    assert ray.get(ray.put(2)) == 2


def test_no_implicit_init_when_forbidden(monkeypatch):
    monkeypatch.setenv("RAY_ENABLE_AUTO_CONNECT", "0")
    with pytest.raises(RuntimeError, match="Ray has not been started yet"):
        ray.put(1)


def test_sessions_one_after_the_other():
    @ray.remote
    def f():
        return os.getpid()

    @ray.remote
    class A:
        def m(self):
            return 1

    pids = set()
    handle = None
    for _ in range(3):
        ray.init(num_cpus=1)
        pids.add(ray.get(f.remote()))
        if handle is not None:
            stale = ray.exceptions.ActorHandleNotFoundError
            with pytest.raises(stale, match="not valid across Ray sessions"):
                handle.m.remote()
            with pytest.raises(stale, match="not valid across Ray sessions"):
                ray.kill(handle)
        handle = A.remote()
        assert ray.get(handle.m.remote()) == 1
        ray.shutdown()
    assert len(pids) == 3


def test_futures_end_with_the_session():
    ray.init(num_cpus=1)

    @ray.remote
    def forever():
        import time

        time.sleep(1000)

    future = forever.remote().future()
    ray.shutdown()
    with pytest.raises(RuntimeError, match="shut down"):
        future.result(timeout=30)


def test_a_future_never_starts_a_session(tmp_path):
    ray.init(num_cpus=1)
    ended, answers = threading.Event(), queue.Queue()

    @ray.remote
    def wait():
        while not (tmp_path / "go").exists():
            time.sleep(0.005)

    def call(_):  # on the thread that calls back; it goes on when the session has ended
        answers.put("called")
        ended.wait()
        try:
            answers.put(ray.put(2))
        except RuntimeError as error:
            answers.put(str(error))

    future = wait.remote().future()
    future.add_done_callback(call)
    (tmp_path / "go").touch()
    assert answers.get(timeout=60) == "called"
    ray.shutdown()
    ended.set()
    assert "Ray was shut down" in answers.get(timeout=60)
    assert not ray.is_initialized()


def test_arrays_outlive_the_session():
    array = ray.get(ray.put(np.full(1_000_000, 3.0)))
    ray.shutdown()
    assert (array == 3.0).all()
    ray.init(num_cpus=1)
    other = ray.get(ray.put(np.full(1_000_000, 4.0)))
    assert (array == 3.0).all() and (other == 4.0).all()


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"nonsense": 1}, RuntimeError, "Unknown keyword argument"),
        ({"allow_multiple": True}, RuntimeError, "allow_multiple"),
        ({"_system_config": 1}, TypeError, "_system_config"),
        ({"num_cpus": -1}, ValueError, "num_cpus"),
        ({"num_cpus": "2"}, TypeError, "num_cpus"),
        ({"resources": {"CPU": 1}}, ValueError, "num_cpus"),
        ({"resources": [1]}, TypeError, "resources"),
        ({"resources": {"": 1}}, ValueError, "names have 1 to 127 bytes"),
        ({"resources": {"r" * 128: 1}}, ValueError, "names have 1 to 127 bytes"),
        ({"resources": {"a\0b": 1}}, ValueError, "null character"),
        ({"resources": {"r": float("inf")}}, ValueError, "amount inf"),
        ({"object_store_memory": 1000}, ValueError, "at least"),
        ({"namespace": ""}, ValueError, "namespace"),
        ({"namespace": 1}, TypeError, "namespace"),
        ({"namespace": "a\0b"}, ValueError, "null character"),
        ({"job_config": {"ray_namespace": "a"}}, TypeError, "job_config must be"),
        ({"logging_config": "INFO"}, TypeError, "logging_config must be"),
        ({"logging_config": ray.LoggingConfig("JSON")}, NotImplementedError, "not built yet"),
        ({"_temp_dir": 3}, TypeError, "PathLike"),
        ({"address": "auto"}, ConnectionError, "Could not find any running Ray instance"),
        ({"address": "1.2.3.4:5", "num_cpus": 1}, ValueError, "num_cpus must not be provided"),
        ({"address": 5}, TypeError, "address"),
        ({"local_mode": True}, NotImplementedError, "not built yet"),
        ({"runtime_env": {"pip": ["x"]}}, NotImplementedError, "not built yet"),
    ],
    ids=str,
)
def test_init_refuses(arguments, error, text, monkeypatch, tmp_path):
    monkeypatch.delenv("RAY_ADDRESS")
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))  # no runtime stands there
    with pytest.raises(error, match=text):
        ray.init(**arguments)
    assert not ray.is_initialized()


def test_resources():
    ray.init(num_cpus=3, num_gpus=2, resources={"custom": 5})
    total = ray.cluster_resources()
    assert (total["CPU"], total["GPU"], total["custom"]) == (3.0, 2.0, 5.0)
    assert total["memory"] > 0 and total["object_store_memory"] > 0
    node = ray.nodes()[0]
    assert node["Alive"] and node["NodeID"] and node["Resources"]["CPU"] == 3.0
    assert ray.available_resources()["CPU"] == 3.0


def test_runtime_context():
    ray.init(num_cpus=1, namespace="mine")
    context = ray.get_runtime_context()
    assert context.get_job_id() == "01000000" and context.namespace == "mine"
    assert context.get_node_id() == ray.nodes()[0]["NodeID"]
    assert context.get_task_id() is None and context.get_actor_id() is None
    assert context.get_task_name() is None
    with pytest.raises(AssertionError):
        context.get_assigned_resources()

    @ray.remote
    def task():
        c = ray.get_runtime_context()
        return c.get_task_id(), c.get_worker_id(), c.get_assigned_resources(), c.get_actor_id()

    ref = task.remote()
    task_id, worker_id, resources, actor_id = ray.get(ref)
    assert task_id == ref.task_id().hex() and worker_id != context.get_worker_id()
    assert repr(resources) == "{'CPU': 1.0}" and actor_id is None

    @ray.remote
    class Actor:
        def ids(self):
            c = ray.get_runtime_context()
            return c.get_actor_id(), c.get_assigned_resources(), c.get_actor_name()

    actor = Actor.remote()
    assert ray.get(actor.ids.remote()) == (actor._actor_id.hex(), {}, "")


def test_runtime_context_without_ray():
    with pytest.raises(AssertionError, match="has not been initialized"):
        ray.get_runtime_context().get_job_id()


def test_memory_is_given_back():
    ray.init(num_cpus=2, object_store_memory=80 << 20)
    array = np.ones((10 << 20) // 8)

    @ray.remote
    def make():
        return np.ones((10 << 20) // 8)

    @ray.remote
    def total(x):
        return x.sum()

    @ray.remote
    class Holder:
        def keep(self, refs):
            self.refs = refs

        def look(self):
            return [ray.get(ref)[0] for ref in self.refs]

    holder = Holder.remote()
    for _ in range(20):  # each round more than a quarter of the store
        assert ray.get(total.remote(make.remote())) == array.size
        assert ray.get(total.remote(array)) == array.size
        ray.get(holder.keep.remote([ray.put(array)]))
        assert ray.get(holder.look.remote()) == [1.0]


def test_a_full_store_says_who_holds_it():
    ray.init(num_cpus=1, object_store_memory=80 << 20)
    held = []
    with pytest.raises(ray.exceptions.ObjectStoreFullError, match="driver") as info:
        for _ in range(20):
            held.append(ray.put(np.ones((10 << 20) // 8)))
    assert "full of objects that are still in scope" in str(info.value)
    del held[:]
    assert ray.get(ray.put(np.ones((10 << 20) // 8)))[0] == 1.0


@pytest.mark.timeout(60)
def test_a_full_store_is_told_soon():
    ray.init(num_cpus=1, object_store_memory=80 << 20)
    half = np.ones((50 << 20) // 8)
    held = ray.put(half)
    for _ in range(20):  # each a moment, or the test's time is over
        with pytest.raises(ray.exceptions.ObjectStoreFullError, match="driver"):
            ray.put(half)
    assert ray.get(held)[0] == 1.0


def test_memory_that_a_running_task_frees_is_waited_for():
    ray.init(num_cpus=1, object_store_memory=80 << 20)

    @ray.remote
    def keep(refs, path):
        first = refs.pop()
        with open(path, "w"):
            pass
        time.sleep(0.6)
        del first
        return None

    half = np.ones((50 << 20) // 8)
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "begun")
        done = keep.remote([ray.put(half)], path)
        while not os.path.exists(path):
            time.sleep(0.01)
        assert ray.get(ray.put(half))[0] == 1.0
        ray.get(done)


def test_death_of_the_raylet():
    ray.init(num_cpus=1)

    @ray.remote
    def parent():
        return os.getppid()

    @ray.remote
    def forever():
        import time

        time.sleep(1000)

    array = ray.get(ray.put(np.ones(10**6)))
    pending = forever.remote()
    os.kill(ray.get(parent.options(num_cpus=0).remote()), signal.SIGKILL)
    with pytest.raises(ray.exceptions.LocalRayletDiedError, match="SIGKILL"):
        ray.get(pending, timeout=30)
    assert not ray.is_initialized() and array.sum() == 10**6
    actor = ray.remote(type("Actor", (), {}))
    # No other runtime takes its place by itself.
    for call in (forever.remote, ray.nodes, lambda: ray.put(1), actor.remote):
        with pytest.raises(ray.exceptions.LocalRayletDiedError, match="SIGKILL"):
            call()
    ray.init(num_cpus=1)
    assert ray.get(parent.remote()) > 0 and array.sum() == 10**6


def test_other_threads_run_while_an_actor_is_stored():
    config = ray.job_config.JobConfig(default_actor_lifetime="detached")
    ray.init(num_cpus=1, job_config=config)
    actor_class = ray.remote(type("Actor", (), {"pid": lambda self: os.getpid()}))
    assert ray.get(actor_class.remote().pid.remote()) != os.getpid()
    made = []
    control = gcs_pid()
    os.kill(control, signal.SIGSTOP)
    try:
        thread = threading.Thread(target=lambda: made.append(actor_class.remote()))
        thread.start()
        for _ in range(20):
            time.sleep(0.005)  # it would not come back while the other thread waits with the lock
        assert made == []
    finally:
        os.kill(control, signal.SIGCONT)
    thread.join()
    assert ray.get(made[0].pid.remote()) != os.getpid()


def test_death_of_the_raylet_while_it_starts(monkeypatch):
    monkeypatch.setenv("RAY_FAULT", "gcs/gcs.round.before_commit:crash")
    with pytest.raises(ray.exceptions.LocalRayletDiedError, match="control service has ended 4"):
        ray.init(num_cpus=1)
    monkeypatch.delenv("RAY_FAULT")
    ray.init(num_cpus=1)


EXITS = {
    "plain": "pass",
    "pending": "refs = [f.remote(i) for i in range(100)]",
    "array": "import numpy as np; a = ray.get(ray.put(np.zeros(10**6)))",
    "actor": "a = A.remote(); r = a.m.remote()",
    "cycle": "a = A.remote(); r = a.m.remote(); l = [a, r]; l.append(l); import gc; gc.disable()",
    "future": "r = f.remote(1).future()",
    "thread": (
        "import contextlib, threading\n"
        "def get():\n"
        "    with contextlib.suppress(Exception): ray.get(f.remote(1))\n"
        "threading.Thread(target=get, daemon=True).start()"
    ),
    "del": "class D:\n    def __del__(self): ray.is_initialized()\nd = D()",
    "exception": "import atexit; atexit.register(lambda: ray.is_initialized())",
}


@pytest.mark.parametrize("what", EXITS)
def test_the_interpreter_may_end_any_time(run_program, what):
    code = textwrap.dedent(
        """
        import ray
        ray.init(num_cpus=2)
        @ray.remote
        def f(x): return x
        @ray.remote
        class A:
            def m(self): return 1
        assert ray.get(f.remote(1)) == 1
        """
    )
    status, out, err = run_program(code + EXITS[what] + "\nprint('end')\n")
    assert (status, out) == (0, "end\n"), err
    assert "Error" not in err and "Fatal" not in err, err


def test_end_by_exception_and_sys_exit(run_program):
    start = "import ray, sys\nray.init(num_cpus=1)\nr = ray.put(1)\n"
    status, _, err = run_program(start + "raise ValueError('mine')")
    assert status == 1 and "ValueError: mine" in err
    assert run_program(start + "sys.exit(7)")[0] == 7


def test_sigterm_ends_in_order(run_program):
    code = """
        import os, ray, signal, atexit
        ray.init(num_cpus=1)
        atexit.register(lambda: print("ended", flush=True))
        os.kill(os.getpid(), signal.SIGTERM)
    """
    status, out, _ = run_program(code)
    assert status == 15 and out == "ended\n"


# A shell starts what runs in its background with SIGINT ignored, and Python then keeps it so.
HEARS_CTRL_C = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"


def test_ctrl_c_in_get_returns_at_once():
    code = """
        import ray, time
        ray.init(num_cpus=1)
        @ray.remote
        def forever():
            time.sleep(1000)
        ref = forever.remote()
        try:
            print("waiting", flush=True)
            ray.get(ref)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", HEARS_CTRL_C + textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    assert out == "interrupted\n" and process.returncode == 0


@pytest.mark.parametrize("wait", ["ray.get(ref)", "ray.wait([ref])"])
def test_a_signal_that_interrupts_no_system_call_ends_waits(run_program, wait):
    # It comes to another thread; or to this one just before it sleeps, which can't be arranged.
    code = """
        import ray, threading, time
        ray.init(num_cpus=1)
        @ray.remote
        def forever():
            time.sleep(1000)
        def strike():
            time.sleep(0.2)
            signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        ref = forever.remote()
        try:
            threading.Thread(target=strike).start()
            WAIT
        except KeyboardInterrupt:
            print("interrupted", flush=True)
    """
    code = HEARS_CTRL_C + textwrap.dedent(code).replace("WAIT", wait)
    status, out, err = run_program(code)
    assert (status, out) == (0, "interrupted\n"), err


def test_ctrl_c_is_not_for_the_daemons(run_program):
    code = """
        import os, ray, signal
        ray.init(num_cpus=1)
        @ray.remote
        def f(): return 1
        assert ray.get(f.remote()) == 1
        try:
            os.killpg(0, signal.SIGINT)
            ray.get(f.remote())
        except KeyboardInterrupt:
            pass
        print(ray.get(f.remote()))
    """
    code = HEARS_CTRL_C + "import os\nos.setpgrp()\n" + textwrap.dedent(code)
    assert run_program(code)[:2] == (0, "1\n")


@pytest.mark.parametrize("how", ["os._exit(5)", "sys.exit(5)"])
def test_children_of_the_driver(run_program, how):
    code = f"""
        import os, sys
        import numpy as np
        import ray
        ray.init(num_cpus=1)
        array = ray.get(ray.put(np.full(10**6, 2.0)))
        ref = ray.put(1)
        pid = os.fork()
        if pid == 0:
            assert array[5] == 2.0 and not ray.is_initialized()
            try:
                ray.get(ref)
            except Exception as exc:
                print(type(exc).__name__, flush=True)
            {how}
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
        print(ray.get(ray.remote(lambda: 3).remote()), array.sum())
    """
    status, out, err = run_program(code, timeout=60)
    assert (status, out) == (0, "RuntimeError\n5\n3 2000000.0\n"), err


def test_tasks_may_fork():
    ray.init(num_cpus=1)

    @ray.remote
    def pooled():
        import multiprocessing

        with multiprocessing.get_context("fork").Pool(2) as pool:
            return pool.map(abs, [-1, -2, -3])

    assert ray.get(pooled.remote(), timeout=60) == [1, 2, 3]


def test_a_module_beside_the_program_is_found_by_workers(tmp_path):
    (tmp_path / "helper_of_program.py").write_text("def f():\n    return 'helped'\n")
    (tmp_path / "program.py").write_text(
        "import ray, helper_of_program\nray.init(num_cpus=1)\n"
        "print(ray.get(ray.remote(helper_of_program.f).remote()))\n"
    )
    done = subprocess.run(
        [sys.executable, str(tmp_path / "program.py")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "helped\n", done.stderr


def test_main_is_not_run_again(tmp_path):
    (tmp_path / "program.py").write_text(
        "import ray\nprint('main')\n"
        "class Thing:\n    def __init__(self, x): self.x = x\n"
        "    def __eq__(self, o): return type(o) is Thing and o.x == self.x\n"
        "@ray.remote\ndef f(t): return Thing(t.x + 1)\n"
        "print(ray.get(f.remote(Thing(1))) == Thing(2))\n"
    )
    done = subprocess.run(
        [sys.executable, str(tmp_path / "program.py")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "main\nTrue\n", done.stderr


def test_prints_of_workers_appear(run_program):
    code = """
        import ray
        ray.init(num_cpus=1)
        @ray.remote
        def speak():
            import sys
            print("to stdout")
            print("to stderr", file=sys.stderr)
        @ray.remote
        class Speaker:
            def speak(self):
                print("an actor speaks")
        ray.get(speak.remote())
        s = Speaker.remote()
        ray.get(s.speak.remote())
    """
    status, out, err = run_program(code)
    assert status == 0
    assert "(speak pid=" in out and ") to stdout\n" in out
    assert "(speak pid=" in err and ") to stderr\n" in err
    assert "(Speaker pid=" in out and ") an actor speaks\n" in out


def test_prints_can_be_kept_back(run_program):
    code = """
        import ray
        ray.init(num_cpus=1, log_to_driver=False)
        @ray.remote
        def speak(): print("silence")
        ray.get(speak.remote())
    """
    status, out, err = run_program(code)
    assert status == 0 and "silence" not in out + err


def test_numpy_is_not_in_new_workers():
    ray.init(num_cpus=1)

    @ray.remote
    def loaded():
        return "numpy" in sys.modules

    loaded._function.__module__ = "__main__"
    assert ray.get(loaded.remote()) is False


def test_returns_of_a_task_that_then_fails_take_no_memory():
    ray.init(num_cpus=1, object_store_memory=80 << 20)

    @ray.remote(num_returns=3)
    def half_done():
        return np.ones((15 << 20) // 8), np.ones(1 << 15), threading.Lock()

    for _ in range(20):  # in one worker, each with a fifth of the store
        with pytest.raises(TypeError):
            ray.get(half_done.remote()[0])

    @ray.remote
    def whole():
        return np.ones((60 << 20) // 8)

    assert ray.get(whole.remote())[0] == 1.0


def parent_of(pid):
    with open(f"/proc/{pid}/stat") as f:
        return int(f.read().rsplit(")", 1)[1].split()[1])


def children_of(pid):
    found = []
    for name in os.listdir("/proc"):
        try:
            if name.isdigit() and parent_of(name) == pid:
                found.append(int(name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def has_ended(pid):
    """Whether the process is gone, or only its parent hasn't looked: that may be this one, which
    other tests make the parent of orphans."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            if f.read().rpartition(")")[2].split()[0] != "Z":
                return False
    except (FileNotFoundError, ProcessLookupError):
        return True
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        pass
    return True


def test_a_stopped_raylet_does_not_outlive_its_driver():
    program = """
        import os, ray
        ray.init(num_cpus=1, log_to_driver=False)
        print(ray.get(ray.remote(os.getppid).remote()), flush=True)
        os.read(0, 1)
    """
    driver = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    raylet = int(driver.stdout.readline())
    guard = parent_of(raylet)
    assert os.path.basename(os.readlink(f"/proc/{guard}/exe")) == "raylet"
    everybody = [guard, raylet, *children_of(raylet)]
    assert len(everybody) >= 5  # with ray-gcs, the zygote and a worker
    os.kill(raylet, signal.SIGSTOP)
    driver.kill()
    driver.communicate()
    while not all([has_ended(pid) for pid in everybody]):
        time.sleep(0.01)
