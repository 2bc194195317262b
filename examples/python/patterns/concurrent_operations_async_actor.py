#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Pattern: an asyncio actor answers questions while a long method of it runs.

An ordinary actor runs one method at a time: while ``run`` polls for work, nobody learns how far it
is. Written with ``async def``, ``run`` gives way at each ``await``, also while it waits for an
object (``await ref`` instead of ``ray.get(ref)``).

    python concurrent_operations_async_actor.py
"""

import asyncio

import ray

WORK = ["a", "b", "c"]
END = None


@ray.remote
class Source:
    """Where work comes from; `take` waits until there is some."""

    def __init__(self, items):
        self.items = asyncio.Queue()
        for item in items:
            self.items.put_nowait(item)

    async def take(self):
        return await self.items.get()

    async def give(self, item):
        self.items.put_nowait(item)


@ray.remote
class BlockingExecutor:
    def __init__(self):
        self.done = 0

    def run(self, source):
        while ray.get(source.take.remote()) is not END:
            self.done += 1

    def progress(self):
        return self.done


@ray.remote
class AsyncExecutor:
    def __init__(self):
        self.done = 0

    async def run(self, source):
        while await source.take.remote() is not END:
            self.done += 1

    async def progress(self):
        return self.done


def main():
    ray.init("local", num_cpus=2)
    source, executor = Source.remote(WORK), BlockingExecutor.remote()
    running, asked = executor.run.remote(source), executor.progress.remote()
    ready, _ = ray.wait([asked], timeout=0.3)
    print("blocking actor, asked while it runs:", "answered" if ready else "no answer yet")
    assert not ready  # run ends with the work, and the work was not ended
    ray.get(source.give.remote(END))
    print(f"blocking actor, when its run is over: {ray.get(asked)} done")

    source, executor = Source.remote(WORK), AsyncExecutor.remote()
    running = executor.run.remote(source)
    while ray.get(executor.progress.remote()) < len(WORK):
        pass  # every round is a question that was answered meanwhile
    still, _ = ray.wait([running], timeout=0)
    assert not still
    print(f"asyncio actor, asked while it runs:  {len(WORK)} done, and it still waits for more")
    ray.get([source.give.remote(END), running])


if __name__ == "__main__":
    main()
