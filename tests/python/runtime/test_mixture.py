# SPDX-License-Identifier: Apache-2.0
"""Everything at once, from several threads. A failure prints its seed; RAY_TEST_SEED replays it."""

import os
import random
import threading

import numpy as np
import pytest
import ray

pytestmark = pytest.mark.usefixtures("session")


@ray.remote
def nested(value, depth=0):
    return value if depth == 0 else ray.get(nested.remote(value, depth - 1))


@ray.remote
class Counter:
    def __init__(self):
        self.calls = 0

    def add(self, value):
        self.calls += 1
        return self.calls, value


class Mixture:
    """One thread's random sequence of calls; every answer is checked."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.counter = Counter.remote()
        self.calls = 0
        self.held = []

    def step(self, i):
        step = self.random.choice([self.task, self.actor, self.put, self.use, self.lend, self.many])
        step(i)

    def task(self, i):
        assert ray.get(nested.remote(i, self.random.randrange(3))) == i

    def actor(self, i):
        self.calls += 1
        assert ray.get(self.counter.add.remote(i)) == (self.calls, i)

    def put(self, i):
        size = self.random.choice([1, 1000, 20_000, 100_000])
        self.held.append((i, ray.put(np.full(size, i))))

    def use(self, i):
        if self.held:
            at = self.random.randrange(len(self.held))
            value, ref = self.held[at]
            assert (ray.get(nested.remote(ref, 1)) == value).all()
            if self.random.random() < 0.5:
                del self.held[at]

    def lend(self, i):
        inner = ray.get(nested.remote([ray.put(i), {"deep": ray.put([i])}]))
        assert ray.get(inner[0]) == i and ray.get(inner[1]["deep"]) == [i]

    def many(self, i):
        assert ray.get([nested.remote((i, j)) for j in range(20)]) == [(i, j) for j in range(20)]


def test_mixture():
    seed = int(os.environ.get("RAY_TEST_SEED", random.randrange(10**6)))
    print("RAY_TEST_SEED =", seed)
    failures = []

    def run(number):
        try:
            mixture = Mixture(seed + number)
            for i in range(150):
                mixture.step(i)
        except BaseException as exc:
            failures.append((number, exc))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not failures
    assert not any(thread.is_alive() for thread in threads)
