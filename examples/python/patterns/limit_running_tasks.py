#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Pattern: a resource demand says how many tasks may run at the same time.

Four processors would run four tasks at once. When each task declares how much memory it is going to
use, only as many run as fit. The amount is a promise: it is counted, not measured.

    python limit_running_tasks.py
"""

import time

import ray

TASKS = 8
MIB = 1 << 20


@ray.remote
def process(i):
    """Works on a file that it has loaded; when it began and ended, by the machine's clock."""
    start = time.monotonic()
    data = bytearray(MIB)
    time.sleep(0.1)
    del data
    return start, time.monotonic()


def most_at_once(task):
    """How many of the tasks ran at the same time, at most."""
    spans = ray.get([task.remote(i) for i in range(TASKS)])
    return max(sum(start <= moment < end for start, end in spans) for moment, _ in spans)


def main():
    ray.init("local", num_cpus=4, _memory=100 * MIB)
    print("processors: 4, memory: 100 MiB")
    free = most_at_once(process)
    print(f"each task asks for a processor:     up to {free} ran at once")
    limited = most_at_once(process.options(memory=50 * MIB))
    print(f"each asks for 50 MiB of memory too: up to {limited} ran at once")
    assert free <= 4
    assert limited <= 2


if __name__ == "__main__":
    main()
