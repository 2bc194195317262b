#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Pattern: ask for the next piece of work before starting on the one in hand.

A worker that takes an item, computes, takes the next, computes ... stands idle while an item is on
its way. One that has already asked for the next overlaps the way with the work.

    python pipelining.py
"""

import asyncio
import time

import ray

ITEMS = 20
ON_THE_WAY = 0.02  # seconds for an item to arrive
WORK = 0.02  # seconds to compute on it


@ray.remote
class Source:
    """Gives items, each after a while, and writes down what happens."""

    def __init__(self, items):
        self.items = list(range(items))
        self.events = []

    async def take(self):
        self.events.append("asked")
        await asyncio.sleep(ON_THE_WAY)
        return self.items.pop(0) if self.items else None

    async def finished(self):
        self.events.append("finished")

    async def result(self):
        """How often the worker had asked for one item more when it finished one."""
        ahead = asked = finished = 0
        for event in self.events:
            asked += event == "asked"
            finished += event == "finished"
            ahead += event == "finished" and asked > finished
        return ahead


def compute(item):
    end = time.monotonic() + WORK
    while time.monotonic() < end:
        item += 1
    return item


@ray.remote
def one_by_one(source):
    while (item := ray.get(source.take.remote())) is not None:
        compute(item)
        ray.get(source.finished.remote())


@ray.remote
def pipelined(source):
    asked = source.take.remote()
    while (item := ray.get(asked)) is not None:
        asked = source.take.remote()  # on its way while this one is worked on
        compute(item)
        ray.get(source.finished.remote())


def main():
    ray.init("local", num_cpus=2)
    for worker, expected in ((one_by_one, 0), (pipelined, ITEMS)):
        source = Source.remote(ITEMS)
        ray.get(source.__ray_ready__.remote())
        start = time.perf_counter()
        ray.get(worker.remote(source))
        seconds = time.perf_counter() - start
        ahead = ray.get(source.result.remote())
        name = worker._function.__name__
        print(f"{name}: the next item was asked for in time {ahead} of {ITEMS} times")
        print(f"    ({seconds:.2f} s)")
        assert ahead == expected


if __name__ == "__main__":
    main()
