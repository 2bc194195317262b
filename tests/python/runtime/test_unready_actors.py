# SPDX-License-Identifier: Apache-2.0
"""Actors whose constructor waits for arguments: handles, calls and kills come first."""

import os
import threading

import pytest
import ray

pytestmark = pytest.mark.usefixtures("session")


@ray.remote(num_cpus=0)
class Gate:
    """Lets through who waits."""

    def __init__(self):
        self.opened = threading.Event()

    def open(self):
        self.opened.set()

    def wait(self):
        self.opened.wait()
        return 7


@ray.remote(num_cpus=0)
class Late:
    def __init__(self, number):
        self.number = number

    def get(self):
        return self.number


@ray.remote(num_cpus=0)
class Other:
    """Another process with a handle."""

    def take(self, actor):
        self.actor = actor

    def call(self):
        return ray.get(self.actor.get.remote())

    def kill(self, no_restart=True):
        ray.kill(self.actor, no_restart=no_restart)
        ray.util.list_named_actors()  # answered by the same service, after the kill


def late_actor():
    """The actor, what it waits for, and another process that has a handle of it."""
    gate = Gate.options(max_concurrency=2).remote()
    actor = Late.remote(gate.wait.remote())
    other = Other.options(max_concurrency=2).remote()
    ray.get(other.take.remote(actor))
    return actor, gate, other


def check_killed(ref):
    with pytest.raises(ray.exceptions.ActorDiedError, match="killed by `ray.kill`") as caught:
        ray.get(ref)
    assert "never ran" in str(caught.value)


@pytest.mark.parametrize("by", ["creator", "another"])
def test_one_that_is_killed(by):
    actor, gate, other = late_actor()
    calls = [actor.get.remote(), other.call.remote()]
    assert ray.wait(calls, timeout=0.05)[0] == []
    if by == "creator":
        ray.kill(actor)
    else:
        ray.get(other.kill.remote())
    check_killed(calls[1])
    check_killed(actor.get.remote())
    gate.open.remote()
    check_killed(calls[0])
    check_killed(other.call.remote())


def test_one_that_is_killed_but_may_restart():
    """There is nothing to start again yet."""
    actor, gate, other = late_actor()
    calls = [actor.get.remote(), other.call.remote()]
    ray.get(other.kill.remote(False))
    gate.open.remote()
    assert ray.get(calls) == [7, 7]


def test_one_that_waits_while_the_control_service_dies(kill_gcs):
    actor, gate, other = late_actor()
    calls = [actor.get.remote(), other.call.remote()]
    kill_gcs()
    assert ray.wait(calls, timeout=0.05)[0] == []
    gate.open.remote()
    assert ray.get(calls) == [7, 7]


def test_one_that_is_killed_while_the_control_service_dies(kill_gcs):
    actor, gate, other = late_actor()
    ray.util.list_named_actors()  # answered after the registration was stored
    calls = [actor.get.remote(), other.call.remote()]
    kill = other.kill.remote()
    kill_gcs()
    ray.get(kill)
    gate.open.remote()
    for call in calls:
        check_killed(call)


def test_one_that_is_killed_while_its_registration_is_lost(kill_gcs):
    """The kill may come first, to a service that dies with it and hears of it again when the actor
    lives already; what counts is that it comes."""
    actor, gate, other = late_actor()
    calls = [actor.get.remote(), other.call.remote()]
    kill = other.kill.remote()
    kill_gcs()
    ray.get(kill)
    gate.open.remote()
    for call in calls:
        try:
            assert ray.get(call) == 7
        except ray.exceptions.ActorDiedError as error:
            assert "killed by `ray.kill`" in str(error)
    with pytest.raises(ray.exceptions.ActorDiedError, match="killed by `ray.kill`"):
        while True:
            ray.get(actor.get.remote())


def test_a_detached_one_that_is_killed():
    """It has no name; it, too, is known while it waits."""
    gate = Gate.options(max_concurrency=2).remote()
    actor = Late.options(lifetime="detached").remote(gate.wait.remote())
    call = actor.get.remote()
    ray.kill(actor)
    check_killed(call)
    gate.open.remote()
    check_killed(actor.get.remote())


def test_many_at_once():
    """Half of them are killed before they begin."""
    gate = Gate.options(max_concurrency=2).remote()
    number = gate.wait.remote()
    actors = [Late.remote(number) for _ in range(10)]
    calls = [actor.get.remote() for actor in actors]
    for actor in actors[::2]:
        ray.kill(actor)
    for call in calls[::2]:
        check_killed(call)
    gate.open.remote()
    assert ray.get(calls[1::2]) == [7] * 5


def test_one_whose_handles_go_before_it_began():
    actor, gate, other = late_actor()
    call = actor.get.remote()
    del actor
    ray.kill(other)
    gate.open.remote()
    assert ray.get(call) == 7


def test_one_whose_argument_fails():
    @ray.remote(max_retries=0)
    def dies():
        os._exit(1)

    actor = Late.remote(dies.remote())
    other = Other.remote()
    ray.get(other.take.remote(actor))
    for ref in (actor.get.remote(), other.call.remote()):
        with pytest.raises(ray.exceptions.ActorDiedError):
            ray.get(ref)
