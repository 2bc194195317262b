# SPDX-License-Identifier: Apache-2.0
"""ray.util.queue.Queue: order, room, waiting, batches, ends."""

import asyncio
import os
import queue
import select
import threading

import numpy as np
import pytest
import ray
from ray.util.queue import Empty, Full, Queue

pytestmark = pytest.mark.usefixtures("session")


@ray.remote(num_cpus=0)
def produce(q, items):
    for item in items:
        q.put(item)
    return len(items)


@ray.remote(num_cpus=0)
def consume(q, count):
    return [q.get(timeout=60) for _ in range(count)]


def test_first_in_first_out():
    q = Queue()
    assert q.empty() and not q.full() and len(q) == q.size() == q.qsize() == 0
    for i in range(10):
        q.put(i)
    assert len(q) == 10 and not q.empty()
    assert [q.get() for _ in range(10)] == list(range(10))
    assert q.maxsize == 0 and q.actor is not None


def test_room():
    q = Queue(maxsize=2)
    q.put(1)
    q.put_nowait(2)
    assert q.full()
    for put in (
        lambda: q.put_nowait(3),
        lambda: q.put(3, block=False),
        lambda: q.put(3, timeout=0.01),
        lambda: q.put(3, timeout=0),
    ):
        with pytest.raises(Full):
            put()
    assert q.get_nowait() == 1 and q.get(block=False) == 2
    for get in (
        q.get_nowait,
        lambda: q.get(block=False),
        lambda: q.get(timeout=0.01),
        lambda: q.get(timeout=0),
    ):
        with pytest.raises(Empty):
            get()
    q.put("there", timeout=0)
    assert q.get(timeout=0) == "there"


def test_exceptions_are_those_of_the_standard_library_too():
    assert issubclass(Empty, queue.Empty) and issubclass(Full, queue.Full)
    with pytest.raises(queue.Empty):
        Queue().get_nowait()


def test_bad_arguments():
    q = Queue()
    for call in (lambda: q.put(1, timeout=-1), lambda: q.get(timeout=-1)):
        with pytest.raises(ValueError, match="'timeout' must be a non-negative number"):
            call()
    with pytest.raises(TypeError, match="Argument 'items' must be an Iterable"):
        q.put_nowait_batch(5)
    with pytest.raises(TypeError, match="Argument 'num_items' must be an int"):
        q.get_nowait_batch("2")
    with pytest.raises(ValueError, match="'num_items' must be nonnegative"):
        q.get_nowait_batch(-1)
    assert q.empty()


def test_batches():
    q = Queue(maxsize=5)
    q.put_nowait_batch([1, 2])
    q.put_nowait_batch(x for x in (3, 4))
    with pytest.raises(Full, match="Cannot add 2 items to queue of size 4 and maxsize 5"):
        q.put_nowait_batch([5, 6])
    assert q.size() == 4  # all or none
    assert q.get_nowait_batch(3) == [1, 2, 3] and q.get_nowait_batch(0) == []
    with pytest.raises(Empty, match="Cannot get 2 items from queue of size 1"):
        q.get_nowait_batch(2)
    assert q.get_nowait_batch(1) == [4]


def test_waiting():
    q = Queue(maxsize=1)
    got = consume.remote(q, 3)
    assert ray.get(produce.remote(q, [1, 2, 3]), timeout=60) == 3
    assert ray.get(got, timeout=60) == [1, 2, 3]


def test_asyncio():
    q = Queue(maxsize=1)

    async def use():
        getter = asyncio.ensure_future(q.get_async())
        await q.put_async("first")
        assert await getter == "first"
        await q.put_async("second", block=False)
        with pytest.raises(Full):
            await q.put_async("third", timeout=0.01)
        with pytest.raises(Full):
            await q.put_async("third", block=False)
        with pytest.raises(ValueError):
            await q.get_async(timeout=-1)
        assert await q.get_async(block=False) == "second"
        with pytest.raises(Empty):
            await q.get_async(timeout=0.01)
        with pytest.raises(Empty):
            await q.get_async(block=False)

    asyncio.run(use())


def test_many_producers_and_consumers():
    q = Queue(maxsize=10)
    producers = [produce.remote(q, list(range(i * 100, i * 100 + 100))) for i in range(4)]
    consumers = [consume.remote(q, 100) for _ in range(4)]
    assert ray.get(producers, timeout=120) == [100] * 4
    found = ray.get(consumers, timeout=120)
    assert sorted(x for some in found for x in some) == list(range(400))
    for some in found:  # what one producer puts stays in its order
        for i in range(4):
            own = [x for x in some if x // 100 == i]
            assert own == sorted(own)


def test_threads():
    q = Queue()
    got = []
    thread = threading.Thread(target=lambda: got.append(q.get()))
    thread.start()
    q.put("for the thread")
    thread.join(30)
    assert got == ["for the thread"]


def test_items():
    q = Queue()
    array = np.arange(1_000_000)
    ref = ray.put("referred to")
    for item in (array, None, {"nested": [ref]}, Queue):
        q.put(item)
    assert (q.get() == array).all()
    assert q.get() is None
    assert ray.get(q.get()["nested"][0]) == "referred to"
    assert q.get() is Queue
    del ref
    q.put([ray.put("held by the queue alone")])
    assert ray.get(q.get()) == ["held by the queue alone"]


def test_a_queue_travels():
    @ray.remote
    class Holder:
        def __init__(self, q):
            self.q = q

        def put(self, item):
            self.q.put(item)

        def give(self):
            return self.q

    q = Queue(maxsize=3)
    holder = Holder.remote(q)
    ray.get(holder.put.remote("from an actor"))
    again = ray.get(holder.give.remote())
    assert again.maxsize == 3 and again.get() == "from an actor" and q.empty()


def ends(pid):
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], 30)[0])
    finally:
        os.close(fd)


def pid_of(q):
    return ray.get(q.actor.__ray_call__.remote(lambda self: os.getpid()))


@pytest.mark.parametrize("force", [False, True])
def test_shutdown(force):
    q = Queue()
    pid = pid_of(q)
    actor = q.actor
    q.shutdown(force=force)
    assert q.actor is None and ends(pid)
    with pytest.raises(ray.exceptions.RayActorError):
        ray.get(actor.qsize.remote())
    q.shutdown()


def test_shutdown_does_not_wait_for_ever_for_a_getter():
    q = Queue()
    pid = pid_of(q)
    waiting = q.actor.get.remote()
    q.shutdown(grace_period_s=0)
    assert ends(pid)
    with pytest.raises(ray.exceptions.RayActorError):
        ray.get(waiting, timeout=30)


def test_it_ends_with_its_last_holder():
    q = Queue()
    pid = pid_of(q)
    q.put(1)
    del q
    assert ends(pid)


def test_actor_options():
    q = Queue(actor_options={"num_cpus": 1, "resources": {"custom": 1}})
    q.put(1)
    assert ray.available_resources()["custom"] == 1
    with pytest.raises(ValueError, match="Invalid option keyword"):
        Queue(actor_options={"nope": 1})
