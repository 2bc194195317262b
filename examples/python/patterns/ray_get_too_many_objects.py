#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Anti-pattern: one ``ray.get`` for more results than fit into memory.

All of them have to be there at the same time. Taken in batches, each batch can be freed before the
next: neither the driver's memory nor the object store grows with the number of tasks.

    python ray_get_too_many_objects.py
"""

import weakref

import numpy as np
import ray

OBJECTS = 40
BATCH = 4
MIB = 1 << 20


class Held:
    """Counts the arrays that this process holds."""

    now = most = 0

    @classmethod
    def watch(cls, arrays):
        cls.now += len(arrays)
        cls.most = max(cls.most, cls.now)
        for array in arrays:
            weakref.finalize(array, cls.release)
        return arrays

    @classmethod
    def release(cls):
        cls.now -= 1


@ray.remote
def produce(i):
    return np.ones(MIB, dtype=np.uint8)


def all_at_once():
    pending = [produce.remote(i) for i in range(OBJECTS)]
    return sum(len(array) for array in Held.watch(ray.get(pending)))


def in_batches():
    pending, total = [produce.remote(i) for i in range(OBJECTS)], 0
    while pending:
        ready, pending = ray.wait(pending, num_returns=min(BATCH, len(pending)))
        total += sum(len(array) for array in Held.watch(ray.get(ready)))
    return total


def main():
    ray.init("local", num_cpus=2)
    for run, expected in ((all_at_once, OBJECTS), (in_batches, BATCH)):
        Held.most = 0
        total = run()
        name = run.__name__.replace("_", " ")
        print(f"{name}: {total // MIB} MiB in all, of which up to {Held.most} MiB were held")
        assert total == OBJECTS * MIB
        assert Held.most == expected


if __name__ == "__main__":
    main()
