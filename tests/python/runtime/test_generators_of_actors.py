# SPDX-License-Identifier: Apache-2.0
"""Generators of actors: plain, threaded and async ones, with real kills."""

import asyncio
import os
import signal
import threading

import pytest
import ray
from common import kill_me, until, values
from ray.exceptions import ActorDiedError, TaskCancelledError

pytestmark = pytest.mark.usefixtures("session")


def size(path):
    return os.path.getsize(path) if os.path.exists(path) else 0


def note(path):
    with open(path, "a") as file:
        file.write(".")


@ray.remote
def count(n):
    yield from range(n)


@ray.remote
class Plain:
    def count(self, n):
        yield from range(n)

    def fail_after(self, n):
        yield from range(n)
        raise ValueError("enough")

    def pid(self):
        return os.getpid()


@ray.remote(max_concurrency=4)
class Threaded(Plain._cls):
    pass


@ray.remote
class Async(Plain._cls):
    async def acount(self, n, pause=False):
        for i in range(n):
            if pause:
                await asyncio.sleep(0)
            yield i

    async def afail_after(self, n):
        for i in range(n):
            yield i
        raise ValueError("enough")

    async def relay(self, n):
        async for ref in count.remote(n):
            yield await ref

    async def endless(self, path):
        try:
            while True:
                yield 1
                await asyncio.sleep(0.001)
        finally:
            note(path)

    async def pid(self):
        return os.getpid()


@pytest.mark.parametrize("cls", [Plain, Threaded, Async], ids=["plain", "threaded", "async"])
def test_generators_of_actors(cls):
    actor = cls.remote()
    generators = [actor.count.remote(200) for _ in range(4)]
    assert [values(g) for g in generators] == [list(range(200))] * 4
    first, second = actor.fail_after.remote(1)
    assert ray.get(first) == 0
    with pytest.raises(ValueError, match="enough"):
        ray.get(second)
    limited = actor.count.options(_generator_backpressure_num_objects=2)
    assert values(limited.remote(20)) == list(range(20))
    assert values(ray.get(actor.count.options(num_returns="dynamic").remote(3))) == [0, 1, 2]


def test_generators_of_async_actors(tmp_path):
    actor = Async.remote()
    assert values(actor.acount.remote(200)) == list(range(200))
    assert values(actor.acount.remote(50, pause=True)) == list(range(50))
    assert values(actor.relay.remote(20)) == list(range(20))
    first, second = actor.afail_after.remote(1)
    assert ray.get(first) == 0
    with pytest.raises(ValueError, match="enough"):
        ray.get(second)
    # One that waits for its reader holds up nobody.
    waiting = actor.acount.options(_generator_backpressure_num_objects=1).remote(5)
    ray.wait([waiting])
    assert ray.get(actor.pid.remote(), timeout=45)
    assert values(waiting) == list(range(5))
    # Nor does one that never awaits.
    busy = actor.acount.remote(100_000)
    assert ray.get(actor.pid.remote(), timeout=45)
    del busy
    path = str(tmp_path / "closed")
    for limit in (-1, 2):
        before = size(path)
        endless = actor.endless.options(_generator_backpressure_num_objects=limit).remote(path)
        next(endless)
        del endless
        until(lambda before=before: size(path) == before + 1)


class Producer:
    """Many items, none before `go`; tells how many it has made."""

    def __init__(self):
        self.opened = threading.Event()
        self.count = 0

    def go(self):
        self.opened.set()

    def made(self):
        return self.count


class ThreadedProducer(Producer):
    def items(self, n):
        self.opened.wait()
        for _ in range(n):
            self.count += 1
            yield b"x" * 10_000


class AsyncProducer(Producer):
    async def items(self, n):
        while not self.opened.is_set():
            await asyncio.sleep(0)
        for _ in range(n):
            self.count += 1
            yield b"x" * 10_000


@ray.remote(num_cpus=0)
class Reader:
    def start(self, producer, n):
        self.items = producer.items.remote(n)
        return os.getpid()

    def read(self):
        return sum(len(ray.get(ref)) for ref in self.items)


@pytest.mark.parametrize("cls", [ThreadedProducer, AsyncProducer])
def test_a_stopped_owner_holds_up_its_producer(cls):
    """4 MiB of what isn't sent, not all of it, are kept for an owner that doesn't read."""
    n = 3000
    producer = ray.remote(num_cpus=0, max_concurrency=2)(cls).remote()
    reader = Reader.remote()
    pid = ray.get(reader.start.remote(producer, n), timeout=45)
    ray.get(producer.made.remote(), timeout=45)
    os.kill(pid, signal.SIGSTOP)
    try:
        with open(f"/proc/{pid}/stat") as stat:
            until(lambda: stat.seek(0) == 0 and stat.read().rpartition(")")[2].split()[0] == "T")
        ray.get(producer.go.remote(), timeout=45)
        for _ in range(500):  # each is a turn of the event loop at least: room for 64 items
            made = ray.get(producer.made.remote(), timeout=45)
        assert made < n // 2
    finally:
        os.kill(pid, signal.SIGCONT)
    assert ray.get(reader.read.remote(), timeout=90) == n * 10_000
    assert ray.get(producer.made.remote(), timeout=45) == n


@pytest.mark.parametrize("limit", [-1, 2])
def test_a_cancelled_generator_of_an_async_actor(limit, tmp_path):
    actor = Async.remote()
    path = str(tmp_path / "closed")
    method = actor.endless.options(_generator_backpressure_num_objects=limit)
    generator = method.remote(path)
    assert ray.get(next(generator)) == 1
    ray.cancel(generator)
    *items, last = generator
    assert set(ray.get(items)) <= {1}
    with pytest.raises(TaskCancelledError):
        ray.get(last)
    assert ray.get(actor.pid.remote(), timeout=45)
    until(lambda: size(path) == 1)


def test_an_actor_reads_its_own_generator():
    @ray.remote
    class Reader:
        async def numbers(self, n):
            for i in range(n):
                yield [ray.put(i)]

        async def read(self, me, n):
            return [await (await ref)[0] async for ref in me.numbers.remote(n)]

    reader = Reader.remote()
    assert ray.get(reader.read.remote(reader, 5), timeout=45) == list(range(5))


def test_an_actor_killed_while_it_yields():
    @ray.remote
    class Doomed:
        def yields(self, n):
            yield from range(n)
            kill_me()

    actor = Doomed.remote()
    refs = list(actor.yields.remote(3))
    assert ray.get(refs[:-1]) == list(range(len(refs) - 1))
    with pytest.raises(ActorDiedError):
        ray.get(refs[-1])


@pytest.mark.parametrize("at", range(5))
def test_an_actor_that_restarts_goes_on(at, tmp_path):
    path = str(tmp_path / "died")

    @ray.remote(max_restarts=2, max_task_retries=2)
    class Doomed:
        def yields(self):
            for i in range(5):
                if i == at and not os.path.exists(path):
                    note(path)
                    kill_me()
                yield i

    actor = Doomed.remote()
    assert values(actor.yields.remote()) == list(range(5))


def test_dynamic_generators_of_actors():
    for cls in (Plain, Async):
        actor = cls.remote()
        refs = ray.get(actor.count.options(num_returns="dynamic").remote(3))
        assert values(refs) == [0, 1, 2]
