# SPDX-License-Identifier: Apache-2.0
"""Concurrency groups: methods that never wait for those of another group."""

import asyncio
import threading
import time

import pytest
import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError


@pytest.fixture(autouse=True)
def _use(session):
    pass


@ray.remote(concurrency_groups={"io": 2, "compute": 4})
class Threaded:
    def __init__(self):
        self.lock = threading.Condition()
        self.inside = {}
        self.open = set()

    def _wait(self, name):
        with self.lock:
            self.inside[name] = self.inside.get(name, 0) + 1
            self.lock.wait_for(lambda: name in self.open)
            self.inside[name] -= 1
        return name

    @ray.method(concurrency_group="io")
    def io(self):
        return self._wait("io")

    @ray.method(concurrency_group="compute")
    def compute(self):
        return self._wait("compute")

    def default(self):
        return self._wait("default")

    def inside_now(self):
        with self.lock:
            return dict(self.inside)

    def let_go(self, name):
        with self.lock:
            self.open.add(name)
            self.lock.notify_all()


def wait_for(condition):
    while not condition():  # as long as the test may take
        time.sleep(0.001)


def test_threads_in_groups():
    actor = Threaded.options(max_concurrency=2).remote()
    held = [actor.io.remote() for _ in range(5)] + [actor.compute.remote() for _ in range(10)]
    default = actor.default.remote()
    wait_for(
        lambda: ray.get(actor.inside_now.remote()) == {"io": 2, "compute": 4, "default": 1}
    )
    # The group is chosen anew for one call.
    for name in ("io", "compute"):
        ray.get(actor.let_go.remote(name))
    assert ray.get(held) == ["io"] * 5 + ["compute"] * 10
    inside = ray.get(actor.inside_now.options(concurrency_group="io").remote())
    assert inside["default"] == 1
    ray.get(actor.let_go.remote("default"))
    assert ray.get(default) == "default"


@ray.remote(concurrency_groups={"io": 2, "loop": 50})
class Async:
    def __init__(self):
        self.default_thread = threading.get_ident()
        self.inside = 0

    @ray.method(concurrency_group="io")
    async def io(self):
        self.inside += 1
        await asyncio.sleep(0.01)
        most = self.inside
        self.inside -= 1
        return most

    @ray.method(concurrency_group="loop")
    async def block(self):
        threading.Event().wait()

    @ray.method(concurrency_group="io")
    async def where(self):
        return threading.get_ident(), id(asyncio.get_running_loop())

    async def where_default(self):
        return threading.get_ident(), id(asyncio.get_running_loop())

    @ray.method(concurrency_group="io")
    async def awaits(self, ref):
        return await ref[0]

    @ray.method(concurrency_group="io")
    async def leave(self):
        ray.actor.exit_actor()


def test_loops_in_groups():
    actor = Async.remote()
    assert max(ray.get([actor.io.remote() for _ in range(20)])) <= 2
    stuck = actor.block.remote()  # a whole loop stands still, but no other
    assert max(ray.get([actor.io.remote() for _ in range(4)])) <= 2
    io, default = ray.get([actor.where.remote(), actor.where_default.remote()])
    assert io[0] != default[0] and io[1] != default[1]
    assert ray.get(actor.where_default.options(concurrency_group="io").remote()) == io
    signal = Threaded.options(max_concurrency=2).remote()
    waits = actor.awaits.remote([signal.default.remote()])
    with pytest.raises(GetTimeoutError):
        ray.get(waits, timeout=0.02)
    ray.get(signal.let_go.remote("default"))
    assert ray.get(waits) == "default"
    with pytest.raises(RayActorError, match="exit_actor"):
        ray.get(actor.leave.remote())
    with pytest.raises(RayActorError):
        ray.get(stuck)


def test_thousands_queued_in_one_group_do_not_hold_up_another():
    actor = Threaded.options(max_concurrency=2).remote()
    held = [actor.io.remote() for _ in range(3000)]
    assert ray.get(actor.inside_now.remote()).get("io", 0) <= 2
    ray.get(actor.let_go.remote("io"))
    assert ray.get(held) == ["io"] * 3000


def test_groups_that_are_not_there():
    actor = Threaded.remote()
    with pytest.raises((RayTaskError, ValueError, ray.exceptions.RayError), match="'nowhere'"):
        ray.get(actor.inside_now.options(concurrency_group="nowhere").remote())
    assert ray.get(actor.inside_now.remote()) == {}

    @ray.remote
    class Undeclared:
        @ray.method(concurrency_group="nowhere")
        def f(self):
            pass

    with pytest.raises(AssertionError, match="nowhere"):
        Undeclared.remote()
    with pytest.raises(ValueError, match="concurrency_groups"):
        Threaded.options(concurrency_groups={"io": 3})
    with pytest.raises(ValueError, match="limit"):

        @ray.remote(concurrency_groups={"io": 0})
        class Wrong:
            pass


def test_groups_as_a_list():
    @ray.remote(concurrency_groups=[{"name": "io", "max_concurrency": 3}])
    class Listed:
        @ray.method(concurrency_group="io")
        def f(self):
            return threading.get_ident()

    actor = Listed.remote()
    assert isinstance(ray.get(actor.f.remote()), int)
