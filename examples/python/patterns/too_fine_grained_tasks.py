#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Anti-pattern: a task for every trifle, so that starting it costs more than running it.

A function of a microsecond is not worth a task. Give each task a batch that is.

    python too_fine_grained_tasks.py
"""

import time

import ray

ITEMS = 20_000
BATCH = 2_500


def square(x):
    return x * x


@ray.remote
def square_task(x):
    return square(x)


@ray.remote
def square_batch(xs):
    return [square(x) for x in xs]


def serial():
    return 0, [square(x) for x in range(ITEMS)]


def fine_grained():
    refs = [square_task.remote(x) for x in range(ITEMS)]
    return len(refs), ray.get(refs)


def batched():
    refs = [square_batch.remote(range(i, i + BATCH)) for i in range(0, ITEMS, BATCH)]
    return len(refs), [y for batch in ray.get(refs) for y in batch]


def main():
    ray.init("local", num_cpus=2)
    batched()  # the worker processes are there now
    expected = [x * x for x in range(ITEMS)]
    for run in (serial, fine_grained, batched):
        start = time.perf_counter()
        tasks, result = run()
        seconds = time.perf_counter() - start
        name = run.__name__.replace("_", " ")
        print(f"{name}: {ITEMS} squares by {tasks} tasks")
        print(f"    ({seconds * 1e3:.1f} ms)")
        assert result == expected


if __name__ == "__main__":
    main()
