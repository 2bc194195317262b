# SPDX-License-Identifier: Apache-2.0
"""Actors with max_concurrency: calls on threads of one process."""

import ctypes
import os
import select
import signal
import struct
import sys
import threading
import time

import pytest
import ray
from ray.exceptions import ActorDiedError, RayActorError, TaskCancelledError


@pytest.fixture(autouse=True)
def _use(session):
    pass


@ray.remote
class Threads:
    def __init__(self):
        self.lock = threading.Condition()
        self.inside = 0
        self.most = 0
        self.constructor = threading.get_ident()

    def meet(self, count):
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
            self.lock.notify_all()
            self.lock.wait_for(lambda: self.most >= count)
            self.inside -= 1
        return threading.get_ident()

    def highest(self):
        return self.most

    def add(self, a, b):
        return a + b

    def fails(self):
        raise ValueError("failed")

    def ask(self, other, n):
        return sum(ray.get(other[0].add.remote(i, 1)) for i in range(n))

    def sleep(self, seconds):
        time.sleep(seconds)

    def pid(self):
        return os.getpid()

    def leave(self):
        ray.actor.exit_actor()

    def identity(self):
        return ray.get_runtime_context().get_task_id(), threading.current_thread().name

    def begin(self, other, argument):
        self.ref = other[0].add.remote(argument[0], 1)

    def wait(self):
        with pytest.raises(TaskCancelledError):
            ray.get(self.ref)

    def cancel(self):
        ray.cancel(self.ref)

    def hold_interpreter(self, path):
        """Once this is answered and the file is opened for reading, nothing else runs here until
        the reader, who is told so, closes it."""
        libc = ctypes.PyDLL(None)  # its calls keep the interpreter

        def hold():
            fd = os.open(path, os.O_WRONLY)
            sys.setswitchinterval(1000)
            libc.write(fd, b"x", 1)
            entry = struct.pack("ihh", fd, 0, 0)  # poll() tells of an error without being asked
            libc.poll(entry, 1, -1)
            sys.setswitchinterval(0.005)

        threading.Thread(target=hold, daemon=True).start()

    def keep(self):
        self.local = threading.local()
        return isinstance(threading.current_thread(), threading.Thread)


def wait_end(pidfd):
    select.select([pidfd], [], [])
    os.close(pidfd)


def test_calls_run_at_once_up_to_the_limit():
    actor = Threads.options(max_concurrency=5).remote()
    threads = ray.get([actor.meet.remote(5) for _ in range(100)])
    assert 1 < len(set(threads)) <= 5
    assert ray.get(actor.highest.remote()) == 5


def test_many_short_calls_and_exceptions():
    actor = Threads.options(max_concurrency=4).remote()
    refs = [actor.add.remote(i, i) for i in range(2000)]
    assert ray.get(refs) == [2 * i for i in range(2000)]
    for _ in range(5):
        with pytest.raises(ValueError, match="failed"):
            ray.get(actor.fails.remote())
    assert ray.get(actor.keep.remote())


def test_threads_wait_for_other_actors():
    front = Threads.options(max_concurrency=8).remote()
    back = Threads.options(max_concurrency=2).remote()
    refs = [front.ask.remote([back], 20) for _ in range(16)]
    assert ray.get(refs) == [sum(range(1, 21))] * 16


def test_each_call_knows_its_task():
    actor = Threads.options(max_concurrency=8).remote()
    refs = [actor.identity.remote() for _ in range(100)]
    for ref, (task, _) in zip(refs, ray.get(refs)):
        assert task == ref.task_id().hex()


def test_late_arguments_hold_up_nobody():
    actor = Threads.options(max_concurrency=2).remote()
    gate = Threads.options(max_concurrency=2).remote()
    late = actor.add.remote(gate.meet.remote(2), 1)
    assert ray.get(actor.add.remote(1, 2)) == 3
    ray.get(gate.meet.remote(2))
    assert isinstance(ray.get(late), int)


def test_an_ordinary_actor_keeps_the_order():
    @ray.remote
    class Order:
        def __init__(self):
            self.seen = []

        def note(self, number):
            self.seen.append(number)

        def all(self):
            return self.seen

    actor = Order.options(max_concurrency=1).remote()
    gate = Threads.options(max_concurrency=2).remote()
    actor.note.remote(gate.meet.remote(2))
    refs = [actor.note.remote(i) for i in range(100)]
    ray.get(gate.meet.remote(2))
    ray.get(refs)
    assert ray.get(actor.all.remote())[1:] == list(range(100))


def test_killed_with_calls_in_flight():
    actor = Threads.options(max_concurrency=20).remote()
    pid = ray.get(actor.pid.remote())
    refs = [actor.sleep.remote(1000) for _ in range(100)]
    os.kill(pid, signal.SIGKILL)
    for ref in refs:
        with pytest.raises(ActorDiedError):
            ray.get(ref)


def test_exit_actor_leaves_whatever_runs():
    actor = Threads.options(max_concurrency=3).remote()
    watch = os.pidfd_open(ray.get(actor.pid.remote()))
    stuck = [actor.sleep.remote(1000) for _ in range(2)]
    with pytest.raises(ActorDiedError, match="exit_actor"):
        ray.get(actor.leave.remote())
    for ref in stuck:
        with pytest.raises(ActorDiedError, match="exit_actor"):
            ray.get(ref)
    with pytest.raises(RayActorError):
        ray.get(actor.pid.remote())
    os.close(watch)


def test_a_thread_ends_the_wait_of_another():
    actor = Threads.options(max_concurrency=2).remote()
    other = Threads.options(max_concurrency=2).remote()
    never = other.meet.remote(2)
    ray.get(actor.begin.remote([other], [never]))
    waits = actor.wait.remote()
    ray.get(actor.cancel.remote())  # which nobody outside of that process hears of
    ray.get(waits)
    ray.get(other.meet.remote(2))


def test_leaves_when_its_last_call_is_cancelled(tmp_path):
    path = str(tmp_path / "hold")
    os.mkfifo(path)
    actor = Threads.options(max_concurrency=2).remote()
    watch = os.pidfd_open(ray.get(actor.pid.remote()))
    ray.get(actor.hold_interpreter.remote(path))
    with open(path, "rb", buffering=0) as hold:
        assert hold.read(1) == b"x"
        call = actor.pid.remote()  # it comes, and can't begin
        ray.cancel(call)
        with pytest.raises(TaskCancelledError):
            ray.get(call)
        del actor, call
        # What is told to this one was told to that one before.
        other = Threads.options(max_concurrency=2).remote()
        other_watch = os.pidfd_open(ray.get(other.pid.remote()))
        del other
        wait_end(other_watch)
    wait_end(watch)


def test_max_pending_calls():
    actor = Threads.options(max_concurrency=2, max_pending_calls=4).remote()
    refs = [actor.sleep.remote(1000) for _ in range(4)]
    with pytest.raises(ray.exceptions.PendingCallsLimitExceeded):
        actor.pid.remote()
    ray.kill(actor)
    for ref in refs:
        with pytest.raises(RayActorError):
            ray.get(ref)
