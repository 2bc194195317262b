#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Anti-pattern: a global variable to share state between driver, tasks and actors.

Each process has its own. What all should see belongs into an actor, whose handle is passed around.

    python global_variables.py
"""

import ray

total = 0


@ray.remote
def add_to_global(amount):
    global total
    total += amount


@ray.remote
class Total:
    def __init__(self):
        self.amount = 0

    def add(self, amount):
        self.amount += amount

    def get(self):
        return self.amount


@ray.remote
def add_to_actor(amount, shared):
    ray.get(shared.add.remote(amount))


def main():
    ray.init("local", num_cpus=2)
    ray.get([add_to_global.remote(i) for i in range(5)])
    print("global variable: the driver sees", total)
    shared = Total.remote()
    ray.get([add_to_actor.remote(i, shared) for i in range(5)])
    amount = ray.get(shared.get.remote())
    print("actor:           the driver sees", amount)
    assert (total, amount) == (0, 10)


if __name__ == "__main__":
    main()
