#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Pattern: a task splits its work and hands the parts to tasks of its own.

A merge sort: each task cuts its list in two until a part is small enough to be sorted on the spot.
Both halves are started before either is waited for, or nothing would run side by side.

    python nested_tasks.py
"""

import heapq
import random
import time

import ray

SIZE = 200_000
SMALL = SIZE // 8


@ray.remote
def merge_sort(items):
    """The sorted list, and how many tasks it took."""
    if len(items) <= SMALL:
        return sorted(items), 1
    middle = len(items) // 2
    halves = [merge_sort.remote(items[:middle]), merge_sort.remote(items[middle:])]
    (left, left_tasks), (right, right_tasks) = ray.get(halves)
    return list(heapq.merge(left, right)), 1 + left_tasks + right_tasks


def main():
    ray.init("local", num_cpus=2)
    draw = random.Random(7)
    items = [draw.random() for _ in range(SIZE)]

    start = time.perf_counter()
    result, tasks = ray.get(merge_sort.remote(items))
    seconds = time.perf_counter() - start

    assert result == sorted(items)
    assert tasks == 15  # 8 leaves, and 4 + 2 + 1 that split
    print(f"{SIZE:,} numbers sorted by {tasks} tasks, three levels below the first")
    print(f"(in {seconds:.2f} s; sorted() alone is faster: make each task worth its start)")


if __name__ == "__main__":
    main()
