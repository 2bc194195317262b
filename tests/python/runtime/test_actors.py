# SPDX-License-Identifier: Apache-2.0
"""Actors: state, order, handles, ends."""

import os
import signal
import socket
import time

import pytest
import ray
from common import Count
from ray.exceptions import ActorDiedError, RayActorError, RayTaskError

pytestmark = pytest.mark.usefixtures("session")


@ray.remote
class Counter(Count):
    def fail(self):
        raise KeyError("method")

    @ray.method(num_returns=2)
    def two(self):
        return self.value, -self.value

    def me(self):
        return ray.get_runtime_context().current_actor

    def leave(self):
        ray.actor.exit_actor()

    def die(self):
        os._exit(3)


def test_state_and_order():
    counter = Counter.remote(10)
    assert ray.get([counter.add.remote() for _ in range(100)]) == list(range(11, 111))
    assert ray.get(counter.add.remote(n=5)) == 115


def test_own_process():
    a, b = Counter.remote(), Counter.remote()
    pids = ray.get([a.pid.remote(), b.pid.remote(), a.pid.remote()])
    assert pids[0] == pids[2] != pids[1] and os.getpid() not in pids


def test_num_returns():
    counter = Counter.remote(3)
    assert ray.get(counter.two.remote()) == [3, -3]
    assert ray.get(counter.two.options(num_returns=1).remote()) == (3, -3)
    assert counter.add.options(num_returns=0).remote() is None
    assert ray.get(counter.add.remote(0)) == 4


def test_signatures():
    with pytest.raises(TypeError, match="too many positional arguments"):
        Counter.remote(1, 2)
    counter = Counter.remote()
    with pytest.raises(TypeError, match="unexpected keyword argument 'x'"):
        counter.add.remote(x=1)
    with pytest.raises(TypeError, match="Actor methods cannot be called directly"):
        counter.add()
    with pytest.raises(AttributeError, match="'ActorHandle' object has no attribute 'nope'"):
        _ = counter.nope
    assert {"add", "two"} <= set(dir(counter))


def test_implicit_methods():
    counter = Counter.remote(5)
    assert ray.get(counter.__ray_ready__.remote()) is True
    assert ray.get(counter.__ray_call__.remote(lambda self, x: self.value + x, 2)) == 7
    counter.__ray_terminate__.remote()
    with pytest.raises(RayActorError):
        ray.get(counter.add.remote(), timeout=30)


def test_references_as_arguments():
    counter = Counter.remote(ray.put(1))
    assert ray.get(counter.add.remote(ray.put(2))) == 3


def test_handles_travel():
    counter = Counter.remote()

    @ray.remote
    def use(handle, nested):
        assert handle == nested["handle"] and hash(handle) == hash(nested["handle"])
        return ray.get(handle.add.remote()), ray.get(nested["handle"].two.remote())

    assert ray.get(use.remote(counter, {"handle": counter})) == (1, [1, -1])
    again = ray.get(ray.put([counter]))[0]
    assert again == counter and ray.get(again.add.remote()) == 2
    copied = ray.cloudpickle.loads(ray.cloudpickle.dumps(counter))
    assert copied == counter and ray.get(copied.add.remote()) == 3
    assert repr(counter) == f"Actor(Counter, {counter._actor_id.hex()})"


def test_an_actor_that_uses_another():
    @ray.remote
    class Caller:
        def __init__(self, other):
            self.other = other

        def call(self):
            return ray.get(self.other.add.remote())

    counter = Counter.remote()
    caller = Caller.remote(counter)
    assert ray.get(caller.call.remote()) == 1


def test_method_exceptions():
    counter = Counter.remote()
    with pytest.raises(KeyError, match="method") as info:
        ray.get(counter.fail.remote())
    assert isinstance(info.value, RayTaskError) and "ray::Counter.fail()" in str(info.value)
    assert f"actor_id={counter._actor_id.hex()}" in str(info.value)
    assert ray.get(counter.add.remote()) == 1  # it lives on


def test_constructor_that_raises():
    @ray.remote
    class Broken:
        def __init__(self):
            raise ZeroDivisionError("in the constructor")

        def method(self):
            return 1

    broken = Broken.remote()
    for _ in range(2):
        with pytest.raises(ActorDiedError, match="in the constructor") as info:
            ray.get(broken.method.remote(), timeout=30)
        assert info.value.actor_init_failed


def test_kill():
    counter = Counter.remote()
    assert ray.get(counter.add.remote()) == 1
    ray.kill(counter)
    with pytest.raises(ActorDiedError, match="ray.kill"):
        ray.get(counter.add.remote(), timeout=30)


def test_kill_before_its_arguments_are_there(tmp_path):
    @ray.remote(num_cpus=0)
    def late():
        while not (tmp_path / "go").exists():
            time.sleep(0.005)
        return 1

    @ray.remote(num_cpus=0)
    class Actor:
        def __init__(self, x):
            (tmp_path / "made").touch()

        def call(self):
            return 1

    argument = late.remote()
    actor = Actor.remote(argument)
    ref = actor.call.remote()
    ray.kill(actor)
    for waits in (ref, actor.call.remote()):
        with pytest.raises(ActorDiedError, match="ray.kill"):
            ray.get(waits, timeout=30)
    (tmp_path / "go").touch()
    assert ray.get(argument) == 1
    with pytest.raises(ActorDiedError, match="ray.kill"):
        ray.get(actor.call.remote(), timeout=30)
    assert not (tmp_path / "made").exists()


def test_kill_by_a_borrower_before_its_arguments_are_there(tmp_path):
    @ray.remote(num_cpus=0)
    def late():
        while not (tmp_path / "killed").exists():
            time.sleep(0.005)
        return 1

    @ray.remote(num_cpus=0)
    class Actor:
        def __init__(self, x):
            self.x = x

        def call(self):
            return self.x

    @ray.remote(num_cpus=0)
    def killer(handles):
        ray.kill(handles[0])
        ref = handles[0].call.remote()
        (tmp_path / "killed").touch()
        try:
            return ray.get(ref, timeout=40)
        except ActorDiedError:
            return "dead"

    actor = Actor.remote(late.remote())
    assert ray.get(killer.remote([actor]), timeout=50) == "dead"


def test_kill_with_a_restart_while_it_waits_for_its_place():
    @ray.remote(num_cpus=0, resources={"custom": 2}, max_restarts=1, max_task_retries=-1)
    class Actor:
        def call(self):
            return 1

    first = Actor.remote()
    assert ray.get(first.call.remote(), timeout=30) == 1
    second = Actor.remote()
    ref = second.call.remote()
    ray.kill(second, no_restart=False)
    ray.kill(first)
    assert ray.get(ref, timeout=50) == 1
    ray.kill(second)


def test_exit_actor():
    counter = Counter.remote()
    with pytest.raises(ActorDiedError, match=r"exit_actor\(\) is called"):
        ray.get(counter.leave.remote(), timeout=30)
    with pytest.raises(ActorDiedError):
        ray.get(counter.add.remote(), timeout=30)
    with pytest.raises(TypeError):
        ray.actor.exit_actor()


def test_exit_handlers_run_at_exit_actor(tmp_path):
    @ray.remote
    class Careful:
        def __init__(self, path):
            import atexit

            atexit.register(lambda: open(path, "w").close())

        def leave(self):
            ray.actor.exit_actor()

        def pid(self):
            return os.getpid()

    path = str(tmp_path / "left")
    careful = Careful.remote(path)
    pid = ray.get(careful.pid.remote())
    fd = os.pidfd_open(pid)
    careful.leave.remote()
    import select

    assert select.select([fd], [], [], 30)[0]
    os.close(fd)
    assert os.path.exists(path)


def test_death_of_the_process():
    counter = Counter.remote()
    pid = ray.get(counter.pid.remote())
    with pytest.raises(ActorDiedError) as info:
        ray.get(counter.die.remote(), timeout=30)
    text = str(info.value)
    assert "class_name: Counter" in text and counter._actor_id.hex() in text and str(pid) in text


def test_ends_with_the_last_handle():
    counter = Counter.remote()
    fd = os.pidfd_open(ray.get(counter.pid.remote()))
    last = [counter.add.remote() for _ in range(10)]
    del counter
    import select

    assert select.select([fd], [], [], 30)[0]
    os.close(fd)
    assert ray.get(last) == list(range(1, 11))  # queued calls were run


def test_lost_reference():
    method = Counter.remote().add
    with pytest.raises(RuntimeError, match="Lost reference to actor"):
        method.remote()


def test_current_actor():
    counter = Counter.remote(1)
    me = ray.get(counter.me.remote())
    assert me == counter and ray.get(me.add.remote()) == 2


def test_methods_of_the_current_actor():
    @ray.remote
    class Actor:
        def start(self):
            return ray.get_runtime_context().current_actor.finish.remote(1)

        def finish(self, x):
            return x + 1

    actor = Actor.remote()
    assert ray.get(ray.get(actor.start.remote())) == 2
    fd = os.pidfd_open(ray.get(actor.__ray_call__.remote(lambda self: os.getpid())))
    del actor  # the actor's own handle does not keep it
    import select

    assert select.select([fd], [], [], 30)[0]
    os.close(fd)


def test_class_and_static_methods_and_inheritance():
    class Base:
        def base(self):
            return "base"

    @ray.remote
    class Derived(Base):
        def own(self):
            return super().base() + "d"

        @staticmethod
        def static(x):
            return x

        @classmethod
        def of_class(cls):
            return cls.__name__

    derived = Derived.remote()
    refs = [derived.base.remote(), derived.own.remote(), derived.static.remote(4)]
    assert ray.get(refs) == ["base", "based", 4]
    assert ray.get(derived.of_class.remote()) == "Derived"


def test_put_with_an_owner():
    counter = Counter.remote()
    ref = ray.put("owned", _owner=counter)
    assert ray.get(ref) == "owned"


def listener_of(pid):
    """The path of the socket on which a process listens."""
    inodes = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        target = os.readlink(f"/proc/{pid}/fd/{fd}")
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    with open("/proc/net/unix") as lines:
        for line in lines:
            parts = line.split()
            if len(parts) > 7 and parts[6] in inodes and int(parts[3], 16) & 0x10000:
                return parts[7]
    raise AssertionError("it listens nowhere")


def test_a_peer_whose_listener_has_no_room_holds_nobody_up():
    @ray.remote(num_cpus=0)
    class Quiet:
        def pid(self):
            return os.getpid()

    @ray.remote(num_cpus=0)
    class Caller:
        def call(self, other):
            self.ref = other.pid.remote()  # its first connection to that process

        def ping(self):
            return "here"

        def result(self):
            return ray.get(self.ref)

    quiet, caller = Quiet.remote(), Caller.remote()
    pid = ray.get(quiet.pid.remote())
    path = listener_of(pid)
    assert ray.get(caller.ping.remote()) == "here"
    os.kill(pid, signal.SIGSTOP)
    try:
        full = False
        while not full:
            with socket.socket(socket.AF_UNIX) as s:
                s.setblocking(False)
                try:
                    s.connect(path)
                except BlockingIOError:
                    full = True
        ray.get(caller.call.remote(quiet))
        result = caller.result.remote()
        # Longer than connecting was once tried for.
        assert ray.wait([result], timeout=1.5)[0] == []
    finally:
        os.kill(pid, signal.SIGCONT)
    assert ray.get(result, timeout=60) == pid


def test_a_death_that_is_told_late_is_still_a_death():
    """The raylet is slow to say that the process has died: its connection ended long before."""

    @ray.remote
    class Sleeper:
        def pids(self):
            return os.getpid(), os.getppid()

        def sleep(self):
            time.sleep(600)

    sleeper = Sleeper.remote()
    pid, raylet = ray.get(sleeper.pids.remote())
    call = sleeper.sleep.remote()
    assert ray.wait([call], timeout=0.1)[0] == []
    os.kill(raylet, signal.SIGSTOP)
    try:
        os.kill(pid, signal.SIGKILL)
        assert ray.wait([call], timeout=1)[0] == []
    finally:
        os.kill(raylet, signal.SIGCONT)
    with pytest.raises(ActorDiedError):
        ray.get(call, timeout=60)
