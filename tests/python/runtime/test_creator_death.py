# SPDX-License-Identifier: Apache-2.0
"""Actors whose creator dies: they end with it, for everybody who has a handle."""

import os
import signal
import threading

import pytest
import ray
from common import await_other_pid
from ray.exceptions import ActorDiedError

pytestmark = pytest.mark.usefixtures("session")


def kill(pid):
    os.kill(pid, signal.SIGKILL)


def await_end(pid):
    """Until there is no such process: daemons reap it."""
    while True:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return


@ray.remote(num_cpus=0)
class Node:
    """One of a tree of actors: makes children, and calls others for who asks."""

    def __init__(self):
        self.children = []

    def pid(self):
        return os.getpid()

    def make(self, **options):
        self.children.append(Node.options(**options).remote())
        return self.children[-1]

    def take(self, actor):
        self.actor = actor

    def pass_on(self, other):
        return ray.get(other.take.remote(self.actor))

    def ask(self):
        return ray.get(self.actor.pid.remote())

    def hang(self):
        threading.Event().wait()

    def ask_hanging(self):
        return ray.get(self.actor.hang.remote())

    def __repr__(self):
        return "a node"


def check_dead(ref, why):
    with pytest.raises(ActorDiedError, match=why):
        ray.get(ref)


def await_dead(actor, why):
    """A call may still be answered before the death is known."""
    with pytest.raises(ActorDiedError, match=why):
        while True:
            ray.get(actor.pid.remote())


CREATOR_DIED = "the process that created it has died"


def test_children_end_with_their_creator():
    parent = Node.remote()
    child = ray.get(parent.make.remote(max_restarts=-1, max_task_retries=-1))
    pid = ray.get(child.pid.remote())
    kill(ray.get(parent.pid.remote()))
    await_dead(child, CREATOR_DIED)
    await_end(pid)


def test_what_the_error_says():
    parent = Node.remote()
    child = ray.get(parent.make.remote())
    pid = ray.get(child.pid.remote())
    ray.kill(parent)
    await_dead(child, CREATOR_DIED)
    with pytest.raises(ActorDiedError) as caught:
        ray.get(child.pid.remote())
    assert caught.value.actor_id == child._actor_id.hex()
    assert "class_name: Node" in str(caught.value) and f"pid: {pid}" in str(caught.value)


def test_callers_through_two_hops():
    creator, first, second = (Node.remote() for _ in range(3))
    actor = ray.get(creator.make.remote(max_restarts=-1, max_task_retries=-1))
    pid = ray.get(actor.pid.remote())
    ray.get(first.take.remote(actor))
    ray.get(first.pass_on.remote(second))
    assert ray.get(second.ask.remote()) == pid
    in_flight = [second.ask_hanging.remote(), actor.hang.remote()]
    queued = [actor.pid.remote() for _ in range(10)]
    kill(ray.get(creator.pid.remote()))
    for ref in in_flight + queued:
        check_dead(ref, CREATOR_DIED)
    check_dead(second.ask.remote(), CREATOR_DIED)


def test_a_middleman_that_dies_is_nothing_to_them():
    """Who passed a handle on is not who created the actor."""
    creator, first, second = (Node.remote() for _ in range(3))
    actor = ray.get(creator.make.remote())
    pid = ray.get(actor.pid.remote())
    ray.get(first.take.remote(actor))
    ray.get(first.pass_on.remote(second))
    del actor
    kill(ray.get(first.pid.remote()))
    assert [ray.get(second.ask.remote()) for _ in range(10)] == [pid] * 10
    await_dead(first, "SIGKILL")
    assert ray.get(second.ask.remote()) == pid


def test_the_creator_is_a_task():
    """A worker that drains because of the actor it made; killed, it takes the actor along."""

    @ray.remote(max_calls=1)
    def make():
        return os.getpid(), Node.remote()

    pid, actor = ray.get(make.remote())
    assert ray.get(actor.pid.remote()) != pid
    first = Node.remote()
    ray.get(first.take.remote(actor))
    kill(pid)
    await_dead(actor, CREATOR_DIED)
    check_dead(first.ask.remote(), CREATOR_DIED)


@pytest.mark.parametrize("level", range(3))
def test_trees_die_from_the_top(level):
    top = Node.remote()
    tree = [top, ray.get(top.make.remote(max_restarts=0))]
    tree.append(ray.get(tree[1].make.remote(max_restarts=-1)))
    pids = [ray.get(node.pid.remote()) for node in tree]
    kill(pids[level])
    if level < 2:  # the lowest one starts again
        for node in tree[level + 1 :]:
            await_dead(node, CREATOR_DIED)
        for pid in pids[level:]:
            await_end(pid)
    else:
        await_other_pid(tree[2], pids[2])
    for node, pid in zip(tree[:level], pids):
        assert ray.get(node.pid.remote()) == pid


def test_a_middle_level_that_restarts():
    """Its process is another one then: what the first had made ended with that."""
    top = Node.remote()
    middle = ray.get(top.make.remote(max_restarts=1, max_task_retries=-1))
    leaf = ray.get(middle.make.remote(max_restarts=-1, max_task_retries=-1))
    pids = [ray.get(node.pid.remote()) for node in (top, middle, leaf)]
    kill(pids[1])
    await_dead(leaf, CREATOR_DIED)
    second = await_other_pid(middle, pids[1])
    assert ray.get(top.pid.remote()) == pids[0]
    leaf = ray.get(middle.make.remote())
    assert ray.get(leaf.pid.remote()) != pids[2]
    leaf_pid = ray.get(leaf.pid.remote())
    kill(ray.get(top.pid.remote()))
    for node in (middle, leaf):
        await_dead(node, CREATOR_DIED)
    for pid in (second, leaf_pid):
        await_end(pid)


def test_their_resources_are_free_again():
    parent = Node.remote()
    child = ray.get(parent.make.remote(resources={"custom": 2}))
    ray.get(child.pid.remote())
    ray.kill(parent)
    other = Node.options(resources={"custom": 2}).remote()
    assert ray.get(other.pid.remote())
    await_dead(child, CREATOR_DIED)


def test_one_that_is_still_being_made():
    """Waiting for resources that are not there."""
    holds = Node.options(resources={"custom": 2}).remote()
    ray.get(holds.pid.remote())
    maker = Node.remote()
    waits = ray.get(maker.make.remote(resources={"custom": 1}))
    call = waits.pid.remote()
    assert ray.wait([call], timeout=0.05)[0] == []
    kill(ray.get(maker.pid.remote()))
    check_dead(call, CREATOR_DIED)
