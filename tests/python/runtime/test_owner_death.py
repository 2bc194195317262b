# SPDX-License-Identifier: Apache-2.0
"""Objects whose owner is killed: everybody hears of it, in every way of waiting."""

import asyncio
import os
import signal
import threading

import cloudpickle
import numpy as np
import pytest
import ray
from ray.exceptions import OwnerDiedError

pytestmark = pytest.mark.usefixtures("session")

LARGE = 300_000


def kill(pid):
    os.kill(pid, signal.SIGKILL)


@ray.remote(max_calls=1)
def make(*sizes):
    """Its worker leaves when nobody refers to these any more, and only lives on for them."""
    return os.getpid(), [ray.put(np.zeros(size)) for size in sizes]


@ray.remote
def forever():
    threading.Event().wait()


@ray.remote(max_calls=1)
def begin(count=1):
    """References to results that never come, owned by a worker that has nothing else to do."""
    return os.getpid(), [forever.options(num_cpus=0).remote() for _ in range(count)]


@ray.remote(num_cpus=0)
class Holder:
    """Holds references that others have made, and waits for them."""

    def hold(self, refs):
        self.refs = refs

    def lend(self):
        return self.refs

    def lend_to(self, other):
        return ray.get(other.hold.remote(self.refs))

    def drop(self):
        self.refs = None

    def get(self):
        return [len(x) for x in ray.get(self.refs)]


@ray.remote
def length(x):
    return len(x)


def check_gone(ref):
    """It never comes; gives the error."""
    with pytest.raises(OwnerDiedError) as caught:
        ray.get(ref)
    return caught.value


def await_gone(*refs):
    """Who has a value already, or asks an owner that is about to die, may still be given it."""
    for ref in refs:
        with pytest.raises(OwnerDiedError):
            while True:
                ray.get(ref)


def await_gone_at(holder):
    """The same at a holder of such references."""
    with pytest.raises(OwnerDiedError):
        while True:
            ray.get(holder.get.remote())


def test_waiters_of_every_kind():
    pid, refs = ray.get(begin.remote(5))
    outcomes = {}

    def note(kind, wait):
        try:
            outcomes[kind] = wait()
        except BaseException as e:
            outcomes[kind] = type(e)

    async def one(ref):
        return await ref

    kinds = {
        "get": lambda: ray.get(refs[0]),
        "get many": lambda: ray.get([ray.put(1), *refs]),
        "wait": lambda: len(ray.wait(refs, num_returns=5)[0]),
        "await": lambda: asyncio.run(one(refs[1])),
        "future": lambda: refs[2].future().result(),
    }
    threads = [threading.Thread(target=note, args=item) for item in kinds.items()]
    for thread in threads:
        thread.start()
    dependent = length.remote(refs[3])
    second = length.remote(dependent)
    kill(pid)
    for thread in threads:
        thread.join()
    assert outcomes.pop("wait") == 5
    assert all(what is OwnerDiedError for what in outcomes.values()), outcomes
    check_gone(dependent)
    check_gone(second)
    assert ray.wait(refs, num_returns=5, timeout=0)[1] == []


def test_values_that_nobody_has_read_yet():
    pid, refs = ray.get(make.remote(3, LARGE, LARGE))
    assert len(ray.get(refs[2])) == LARGE
    kept = ray.get(refs[2])
    kill(pid)
    for ref in refs[:2]:
        check_gone(ref)
    assert (kept == 0).all()  # what was read stays readable


def test_what_the_error_says():
    pid, [ref] = ray.get(make.remote(3))
    owner = ref.owner_address()
    kill(pid)
    error = check_gone(ref)
    assert error.object_ref_hex == ref.hex()
    assert error.owner_address == owner
    text = str(error)
    assert text.startswith(f"Failed to retrieve object {ref.hex()}. ")
    assert "The object's owner has exited" in text
    assert f"pid {pid}" in text and "SIGKILL" in text
    copy = cloudpickle.loads(cloudpickle.dumps(error))
    assert str(copy) == text and copy.owner_address == owner


def test_what_a_task_with_such_an_argument_says():
    pid, [ref] = ray.get(make.remote(3))
    kill(pid)
    error = check_gone(length.remote(ref))
    assert isinstance(error, ray.exceptions.RayTaskError)
    assert ref.hex() in str(error) and f"pid {pid}" in str(error)
    assert error.cause.object_ref_hex == ref.hex()


def test_references_inside_of_objects():
    pid, refs = ray.get(make.remote(3, LARGE))
    box = ray.put({"refs": refs})
    inner = ray.put([box])
    del refs
    kill(pid)
    refs = ray.get(ray.get(inner)[0])["refs"]
    for ref in refs:
        check_gone(ref)


def test_borrowers_through_two_hops():
    pid, refs = ray.get(make.remote(3, LARGE))
    first, second, third = (Holder.remote() for _ in range(3))
    ray.get(first.hold.remote(refs))
    ray.get(first.lend_to.remote(second))
    ray.get(second.lend_to.remote(third))
    ray.get([first.drop.remote(), second.drop.remote()])
    del refs
    assert ray.get(third.get.remote()) == [3, LARGE]
    ray.get(third.lend_to.remote(second))
    kill(pid)
    for holder in (second, third):
        await_gone_at(holder)
    await_gone(*ray.get(third.lend.remote()))


def test_a_borrower_that_waits_when_it_happens():
    pid, refs = ray.get(begin.remote())
    holders = [Holder.remote() for _ in range(3)]
    ray.get([h.hold.remote(refs) for h in holders])
    waiting = [h.get.remote() for h in holders]
    assert ray.wait(waiting, num_returns=1, timeout=0.05)[0] == []
    kill(pid)
    for ref in waiting:
        check_gone(ref)


def test_an_owner_that_is_an_actor():
    @ray.remote(num_cpus=0)
    class Maker:
        def make(self):
            return [ray.put(1), ray.put(np.zeros(LARGE)), forever.options(num_cpus=0).remote()]

    for end in (ray.kill, lambda actor: actor.__ray_terminate__.remote()):
        maker = Maker.remote()
        refs = ray.get(maker.make.remote())
        holder = Holder.remote()
        ray.get(holder.hold.remote(refs))
        end(maker)
        await_gone(*refs)
        await_gone_at(holder)


def test_an_owner_that_dies_with_its_reply():
    """Its borrower may not have registered when it is dead already."""

    @ray.remote(num_cpus=0)
    class Suicide:
        def go(self, seconds):
            ref = ray.put(1)
            threading.Timer(seconds, os._exit, [0]).start()
            return [ref]

    heard = 0
    for n in range(20):
        try:
            actor = Suicide.remote()
            [ref] = ray.get(actor.go.remote(n * 0.0002))  # the moment of the blow
        except ray.exceptions.RayActorError:
            continue
        heard += 1
        await_gone(ref)
    print(f"{heard} of 20 had answered")


def test_a_reference_met_after_the_death():
    """One that travelled outside of Ray, to a process that never knew its owner."""
    pid, [ref] = ray.get(make.remote(3))
    pickled = cloudpickle.dumps(ref)
    kill(pid)
    check_gone(ref)

    @ray.remote(max_retries=0)
    def read():
        return ray.get(cloudpickle.loads(pickled))

    check_gone(read.remote())
    del ref
    check_gone(cloudpickle.loads(pickled))
