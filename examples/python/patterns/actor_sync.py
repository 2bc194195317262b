#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Pattern: an actor that others wait at, such as an event for a whole cluster.

Tasks in different processes have no lock or event in common. An asyncio actor can be one: a call
that waits there costs no thread, and all of them go on when somebody sets the event.

    python actor_sync.py
"""

import asyncio

import ray


@ray.remote(num_cpus=0)
class Event:
    """What asyncio.Event is, for tasks and actors anywhere."""

    def __init__(self):
        self.event = asyncio.Event()
        self.waiting = 0

    async def wait(self):
        self.waiting += 1
        await self.event.wait()

    async def set(self):
        self.event.set()

    async def count(self):
        return self.waiting


@ray.remote(num_cpus=0)
def runner(number, event):
    ray.get(event.wait.remote())
    return f"runner {number} starts"


def main():
    ray.init("local", num_cpus=2)
    event = Event.remote()
    runners = [runner.remote(i, event) for i in range(4)]
    while ray.get(event.count.remote()) < len(runners):
        pass  # until all of them stand at the line
    started, _ = ray.wait(runners, num_returns=len(runners), timeout=0)
    print(f"{len(runners)} tasks wait, {len(started)} went on")
    assert not started
    ray.get(event.set.remote())
    print("set:", ", ".join(ray.get(runners)))


if __name__ == "__main__":
    main()
