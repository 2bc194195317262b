#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Pattern: a task with many large results yields them one by one.

A task that returns a list has all results in its heap at the end. A generator has one at a time:
each value goes into the object store as it is yielded. With ``num_returns=n`` the caller has n
references at once; without it gets them as they come, and need not know how many there will be.

    python generators.py
"""

import ray

COUNT = 8
MIB = 1 << 20


class Block:
    """A large result; counts how many are in the heap of this process."""

    alive = most = 0

    def __init__(self):
        self.data = bytearray(MIB)
        Block.alive += 1
        Block.most = max(Block.most, Block.alive)

    def __del__(self):
        Block.alive -= 1

    def __reduce__(self):
        return bytes, (self.data,)


@ray.remote
class Producer:
    """Makes the same results in two ways; an actor, so that it can be asked what it held."""

    def as_list(self):
        return [Block() for _ in range(COUNT)]

    def one_by_one(self):
        for _ in range(COUNT):
            yield Block()

    def most(self):
        return Block.most


def returned(producer):
    return producer.as_list.options(num_returns=COUNT).remote()


def yielded(producer):
    return producer.one_by_one.options(num_returns=COUNT).remote()


def streamed(producer):
    return producer.one_by_one.remote()


def main():
    ray.init("local", num_cpus=2)
    for run, at_least, at_most in ((returned, COUNT, COUNT), (yielded, 1, 2), (streamed, 1, 2)):
        producer = Producer.remote()
        total = sum(len(ray.get(ref)) for ref in run(producer))
        most = ray.get(producer.most.remote())
        print(f"{run.__name__}: {total // MIB} MiB, up to {most} MiB in the heap")
        assert total == COUNT * MIB
        assert at_least <= most <= at_most


if __name__ == "__main__":
    main()
