# SPDX-License-Identifier: Apache-2.0
"""Actors that start again: by real kills, with calls of several callers in flight."""

import collections
import contextlib
import os
import random
import signal
import socket
import stat
import struct
import time

import pytest
import ray
from common import await_other_pid

pytestmark = pytest.mark.usefixtures("session")


@ray.remote(max_restarts=-1, max_task_retries=-1)
class Adder:
    """Notes each execution of a call in a file, so that runs are counted outside of the actor."""

    def __init__(self, path=None):
        self.path = path
        self.calls = 0

    def pid(self):
        return os.getpid()

    def call(self, caller, number):
        self.calls += 1
        if self.path:
            with open(self.path, "a") as f:
                f.write(f"{caller} {number}\n")
        return number

    def count(self):
        return self.calls

    def reconstructed(self):
        return ray.get_runtime_context().was_current_actor_reconstructed


def kill(pid):
    os.kill(pid, signal.SIGKILL)


def test_state_begins_anew_and_it_knows():
    actor = Adder.remote()
    assert ray.get([actor.call.remote(0, i) for i in range(5)]) == list(range(5))
    assert ray.get(actor.count.remote()) == 5
    assert not ray.get(actor.reconstructed.remote())
    pid = ray.get(actor.pid.remote())
    kill(pid)
    assert await_other_pid(actor, pid) != pid
    assert ray.get(actor.count.remote()) == 0
    assert ray.get(actor.reconstructed.remote())


def test_constructor_arguments_come_again():
    @ray.remote(max_restarts=1)
    class Keeper:
        def __init__(self, small, large):
            self.sum = small + int(large.sum())

        def pid(self):
            return os.getpid()

        def total(self):
            return self.sum

    import numpy as np

    keeper = Keeper.remote(ray.put(3), ray.put(np.ones(300_000)))
    assert ray.get(keeper.total.remote()) == 300_003
    pid = ray.get(keeper.pid.remote())
    ray.kill(keeper, no_restart=False)
    await_other_pid(keeper, pid)
    assert ray.get(keeper.total.remote()) == 300_003


@ray.remote
def call_many(actor, caller, count):
    return ray.get([actor.call.remote(caller, i) for i in range(count)])


def test_every_call_is_answered_once_and_in_order(tmp_path):
    seed = int(os.environ.get("RAY_TEST_SEED", time.time_ns() % 2**32))
    print(f"RAY_TEST_SEED={seed}")
    chance = random.Random(seed)
    path = tmp_path / "runs"
    actor = Adder.remote(str(path))
    callers, count = 3, 300
    for _ in range(10):
        answers = [call_many.remote(actor, c, count) for c in range(callers)]
        pid = ray.get(actor.pid.remote())
        time.sleep(chance.random() * 0.02)  # the moment of the blow, not a wait
        kill(pid)
        assert ray.get(answers) == [list(range(count))] * callers
    # What runs again is what was running when the process died: it repeats a number, and never
    # lets a later one go first.
    last = {}
    for line in path.read_text().splitlines():
        caller, number = map(int, line.split())
        before = last.get(caller, count - 1)
        assert number in (before, (before + 1) % count), (caller, before, number)
        last[caller] = number


def test_without_retries_no_call_runs_twice(tmp_path):
    path = tmp_path / "runs"
    actor = Adder.options(max_task_retries=0).remote(str(path))
    lost = 0
    for number in range(10):
        pid = ray.get(actor.pid.remote())
        refs = [actor.call.remote(number, i) for i in range(100)]
        kill(pid)
        for i, ref in enumerate(refs):
            try:
                assert ray.get(ref) == i
            except ray.exceptions.ActorUnavailableError:
                lost += 1
        await_other_pid(actor, pid)
    runs = collections.Counter(path.read_text().splitlines())
    assert max(runs.values()) == 1
    assert lost <= 10  # at most the one that ran


def test_when_no_restart_is_left_it_is_dead():
    @ray.remote(max_restarts=1)
    class Once:
        def pid(self):
            return os.getpid()

        def leave(self):
            os._exit(7)

    actor = Once.remote()
    pid = ray.get(actor.pid.remote())
    with pytest.raises(ray.exceptions.ActorUnavailableError, match="is being restarted"):
        ray.get(actor.leave.remote())
    assert ray.get(actor.pid.remote()) != pid
    with pytest.raises(ray.exceptions.ActorDiedError, match="exit code 7"):
        ray.get(actor.leave.remote())
    with pytest.raises(ray.exceptions.ActorDiedError):
        ray.get(actor.pid.remote())


def test_kill_for_good_and_exit_do_not_restart():
    killed = Adder.remote()
    ray.get(killed.pid.remote())
    ray.kill(killed)
    with pytest.raises(ray.exceptions.ActorDiedError):
        ray.get(killed.pid.remote())
    left = Adder.remote()
    ray.get(left.pid.remote())
    left.__ray_terminate__.remote()
    with pytest.raises(ray.exceptions.ActorDiedError):
        while True:
            ray.get(left.pid.remote())


class Expected(Exception):
    pass


@ray.remote
class Moody:
    def __init__(self):
        self.tries = 0

    def fail(self, times, kind=Expected):
        self.tries += 1
        if self.tries <= times:
            raise kind(self.tries)
        return self.tries

    @ray.method(retry_exceptions=[Expected], max_task_retries=2)
    def annotated(self, times, kind=Expected):
        return self.fail(times, kind)

    @ray.method(retry_exceptions=True)
    def by_class(self, times):
        return self.fail(times)


def call(actor, method, *args, **options):
    return ray.get(getattr(actor, method).options(**options).remote(*args))


def test_exceptions_are_retried():
    assert call(Moody.remote(), "annotated", 2) == 3
    with pytest.raises(Expected):
        call(Moody.remote(), "annotated", 3)
    with pytest.raises(KeyError):
        call(Moody.remote(), "annotated", 2, KeyError)


def test_whose_retries_count():
    own = {"retry_exceptions": True, "max_task_retries": 4}
    assert call(Moody.remote(), "fail", 4, **own) == 5
    with pytest.raises(Expected):  # the method's own number goes before the class's
        call(Moody.options(max_task_retries=9).remote(), "annotated", 3)
    assert call(Moody.options(max_task_retries=1).remote(), "by_class", 1) == 2
    with pytest.raises(Expected):
        call(Moody.remote(), "by_class", 1)


@ray.remote
def call_once(actor):
    return ray.get(actor.by_class.remote(2))


def test_retries_travel_with_the_handle():
    assert ray.get(call_once.remote(Moody.options(max_task_retries=2).remote())) == 3


def for_connections(pid, act):
    """Does something to this process's connections with another one, which both outlive."""
    for name in os.listdir("/proc/self/fd"):
        try:
            copy = os.dup(int(name))
        except OSError:
            continue  # the listing's own
        if not stat.S_ISSOCK(os.fstat(copy).st_mode):
            os.close(copy)
            continue
        with socket.socket(fileno=copy) as end:
            if end.family != socket.AF_UNIX or end.type != socket.SOCK_STREAM:
                continue
            peer = end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 3 * 4)
            if int.from_bytes(peer[:4], "little") == pid:
                with contextlib.suppress(OSError):
                    act(end)


@ray.remote(num_cpus=0, max_restarts=-1)
class Cutter:
    """Breaks the connection that a call came on, while it runs, or spoils it for good."""

    def __init__(self):
        self.cuts = 0
        self.seen = []

    def pid(self):
        return os.getpid()

    def cut(self, pid):
        self.cuts += 1
        for_connections(pid, lambda end: end.shutdown(socket.SHUT_RDWR))
        return self.cuts

    def spoil(self, pid):
        self.cuts += 1
        if self.cuts == 1:
            for_connections(pid, lambda end: end.send(struct.pack("<IHHQ", 3, 0, 0, 0)))
        return self.cuts

    def note(self, number):
        self.seen.append(number)
        return number

    def noted(self):
        return self.seen


def test_a_connection_that_breaks_goes_on():
    """Every call once, in order, without a retry."""
    actor = Cutter.remote()
    pid = ray.get(actor.pid.remote())
    cuts, notes = [], []
    for n in range(50):
        notes.append(actor.note.remote(n))
        if n % 5 == 0:
            cuts.append(actor.cut.remote(os.getpid()))
    assert ray.get(cuts) == list(range(1, 11))
    assert ray.get(notes) == list(range(50))
    assert ray.get(actor.noted.remote()) == list(range(50))
    assert ray.get(actor.pid.remote()) == pid


def test_a_connection_that_is_spoilt_while_the_process_lives():
    actor = Cutter.remote()
    pid = ray.get(actor.pid.remote())
    spoilt = actor.spoil.options(max_task_retries=1).remote(os.getpid())
    # Those that begin before the actor notices have no way to answer, and are made again too.
    note = actor.note.options(max_task_retries=-1)
    after = [note.remote(n) for n in range(20)]
    assert ray.get(spoilt) == 2
    assert ray.get(after) == list(range(20))
    assert sorted(set(ray.get(actor.noted.remote()))) == list(range(20))
    assert ray.get(actor.pid.remote()) == pid


def test_a_connection_that_is_spoilt_without_retries():
    actor = Cutter.remote()
    pid = ray.get(actor.pid.remote())
    with pytest.raises(ray.exceptions.ActorUnavailableError, match="connection"):
        ray.get(actor.spoil.remote(os.getpid()))
    assert ray.get(actor.note.remote(1)) == 1
    assert ray.get(actor.pid.remote()) == pid
