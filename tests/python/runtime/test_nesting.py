# SPDX-License-Identifier: Apache-2.0
"""Tasks that wait for tasks of their own, on a node that is full."""

import pytest
import ray

pytestmark = pytest.mark.usefixtures("one_cpu")


@pytest.fixture(scope="module")
def one_cpu():
    """Ray with one processor, which every parent takes."""
    ray.shutdown()
    yield ray.init(num_cpus=1, log_to_driver=False)
    ray.shutdown()


@ray.remote
def leaf():
    return 1


@ray.remote
def impatient(timeout, tries):
    """Never waits for longer than `timeout` at a time."""
    child = leaf.remote()
    for _ in range(tries):
        ready, _ = ray.wait([child], timeout=timeout)
        if ready:
            return ray.get(child)
    return None


def test_the_processor_is_lent_at_once_to_a_child_that_waits_for_it():
    # No wait here is as long as the millisecond after which any wait lends it.
    assert ray.get(impatient.remote(0.001, 3000), timeout=60) == 1


@ray.remote
def nest(depth):
    return 1 + ray.get(nest.remote(depth - 1)) if depth else 0


def test_waits_within_waits_end():
    assert ray.get(nest.remote(8), timeout=60) == 8


@ray.remote
def chain(length):
    """One child after the other."""
    return sum(ray.get(leaf.remote()) for _ in range(length))


def test_many_parents_take_turns():
    assert ray.get([chain.remote(50) for _ in range(8)], timeout=60) == [50] * 8
