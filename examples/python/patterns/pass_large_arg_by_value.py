#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Anti-pattern: passing the same large argument by value, again and again.

Each call stores a copy of its own. Put it into the object store once, and pass the reference: all
calls read the same copy in place.

    python pass_large_arg_by_value.py
"""

import time

import numpy as np
import ray

CALLS = 5
MIB = 1 << 20


@ray.remote
class Reader:
    """Keeps the arrays it is given; arrays in the object store aren't copied when they arrive."""

    def __init__(self):
        self.arrays = []

    def read(self, array):
        self.arrays.append(array)
        return int(array[-1])

    def copies(self):
        """At how many different addresses they lie."""
        return len({array.__array_interface__["data"][0] for array in self.arrays})


def by_value(reader, array):
    return ray.get([reader.read.remote(array) for _ in range(CALLS)])


def by_reference(reader, array):
    ref = ray.put(array)
    return ray.get([reader.read.remote(ref) for _ in range(CALLS)])


def main():
    ray.init("local", num_cpus=2)
    array = np.ones(10 * MIB, dtype=np.uint8)
    for run, expected in ((by_value, CALLS), (by_reference, 1)):
        reader = Reader.remote()
        ray.get(reader.__ray_ready__.remote())
        start = time.perf_counter()
        assert sum(run(reader, array)) == CALLS
        seconds = time.perf_counter() - start
        copies = ray.get(reader.copies.remote())
        name = run.__name__.replace("_", " ")
        print(f"{name}: {CALLS} calls, {copies} stored, {copies * array.nbytes // MIB} MiB")
        print(f"    ({seconds * 1e3:.0f} ms)")
        assert copies == expected


if __name__ == "__main__":
    main()
