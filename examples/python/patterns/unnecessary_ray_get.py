#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Anti-pattern: fetching a result only to pass it on to the next task.

The driver loads each intermediate result, and its argument is stored as a second object. A
reference given as an argument does the same without the detour: the value is stored once.

    python unnecessary_ray_get.py
"""

import numpy as np
import ray

ROLLOUTS = 4
MIB = 1 << 20


@ray.remote
class Learner:
    """Makes rollouts and learns from them; arrays in the object store are read in place."""

    def __init__(self):
        self.arrays = []

    def generate(self, i):
        return np.full(2 * MIB, i, dtype=np.uint8)

    def look(self, refs):
        """Reads what was generated where it lies in the store."""
        self.arrays += ray.get(refs)

    def learn(self, rollout):
        self.arrays.append(rollout)
        return int(rollout[0])

    def stored(self):
        """At how many different addresses the arrays lie."""
        return len({array.__array_interface__["data"][0] for array in self.arrays})


def fetching(learner, rollouts):
    return [learner.learn.remote(ray.get(rollout)) for rollout in rollouts]


def passing(learner, rollouts):
    return [learner.learn.remote(rollout) for rollout in rollouts]


def main():
    ray.init("local", num_cpus=2)
    for run, expected in ((fetching, 2 * ROLLOUTS), (passing, ROLLOUTS)):
        learner = Learner.remote()
        rollouts = [learner.generate.remote(i) for i in range(ROLLOUTS)]
        ray.get(learner.look.remote(rollouts))
        assert ray.get(run(learner, rollouts)) == list(range(ROLLOUTS))
        stored = ray.get(learner.stored.remote())
        mib = stored * 2
        print(f"{run.__name__}: {ROLLOUTS} rollouts are stored {stored} times, {mib} MiB")
        assert stored == expected


if __name__ == "__main__":
    main()
