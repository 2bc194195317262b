#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Anti-pattern: ``ray.get`` in the loop that starts the tasks, so that they run one by one.

Start all of them first and fetch the results afterwards, by one ``ray.get`` of the list.

    python ray_get_loop.py
"""

import itertools
import time

import ray

TASKS = 6


@ray.remote
def work(i):
    """Sleeps; when it began and ended, by the machine's clock."""
    start = time.monotonic()
    time.sleep(0.1)
    return start, time.monotonic()


def overlaps(spans):
    """How many pairs of tasks ran at the same time."""
    return sum(a[0] < b[1] and b[0] < a[1] for a, b in itertools.combinations(spans, 2))


def get_in_the_loop():
    return [ray.get(work.remote(i)) for i in range(TASKS)]


def get_after_it():
    return ray.get([work.remote(i) for i in range(TASKS)])


def main():
    ray.init("local", num_cpus=2)
    get_after_it()  # the worker processes are there now
    for run in (get_in_the_loop, get_after_it):
        start = time.perf_counter()
        pairs = overlaps(run())
        seconds = time.perf_counter() - start
        name = run.__name__.replace("_", " ")
        print(f"{name}: {pairs} pairs of tasks ran side by side")
        print(f"    ({seconds:.2f} s)")
        if run is get_in_the_loop:
            assert pairs == 0


if __name__ == "__main__":
    main()
