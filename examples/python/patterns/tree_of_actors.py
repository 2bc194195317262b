#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Pattern: a supervisor actor makes worker actors, hands out work and replaces those that die.

The driver speaks to the supervisors only and never sees a worker's death. When a supervisor goes,
its workers go with it, since nobody else has a handle to them.

    python tree_of_actors.py
"""

import os
import time

import ray
from ray.exceptions import RayActorError


@ray.remote
class Trainer:
    """Trains on one shard of the data."""

    def pid(self):
        return os.getpid()

    def train(self, shard, rate):
        if shard == "poisoned" and rate > 1:
            os._exit(1)  # as an out-of-memory kill or a crash in native code would
        return len(shard) * rate


@ray.remote
class Supervisor:
    """Trains a model with one learning rate, by a worker a shard."""

    def __init__(self, rate, shards):
        self.rate = rate
        self.shards = shards
        self.workers = [Trainer.remote() for _ in shards]
        self.deaths = 0

    def pids(self):
        return ray.get([worker.pid.remote() for worker in self.workers])

    def train(self):
        results = [w.train.remote(s, self.rate) for w, s in zip(self.workers, self.shards)]
        return sum(self.result(i, ref) for i, ref in enumerate(results))

    def result(self, i, ref):
        """The result of worker i; a new worker skips the shard that killed the old one."""
        try:
            return ray.get(ref)
        except RayActorError:
            self.deaths += 1
            self.workers[i] = Trainer.remote()
            return ray.get(self.workers[i].train.remote("", self.rate))

    def died(self):
        return self.deaths


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def main():
    ray.init("local", num_cpus=2)
    rates = (1, 10)
    supervisors = [Supervisor.remote(rate, ["first", "second", "poisoned"]) for rate in rates]
    for rate, s in zip(rates, supervisors):
        total, deaths = ray.get([s.train.remote(), s.died.remote()])
        print(f"rate {rate:2}: result {total}, workers replaced: {deaths}")
    pids = sum(ray.get([s.pids.remote() for s in supervisors]), [])
    assert len(set(pids)) == 6
    assert all(map(is_alive, pids))
    del supervisors, s
    deadline = time.monotonic() + 30
    while any(map(is_alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.01)
    print(f"supervisors released: {sum(map(is_alive, pids))} of {len(pids)} workers are left")


if __name__ == "__main__":
    main()
