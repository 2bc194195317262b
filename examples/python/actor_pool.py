#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Counting words with a fixed number of actors that share the lines of a text.

Each actor keeps what it has counted; the pool only says which actor takes the next line.
"""

import collections

import ray
from ray.util import ActorPool

TEXT = """the quick brown fox jumps over the lazy dog
the dog sleeps on and the fox is gone
over the hill and far away the fox sleeps"""


@ray.remote
class Counter:
    def __init__(self):
        self.words = collections.Counter()

    def count(self, line):
        words = line.split()
        self.words.update(words)
        return len(words)

    def result(self):
        return self.words


def main():
    ray.init()
    counters = [Counter.remote() for _ in range(2)]
    pool = ActorPool(counters)
    lengths = list(pool.map(lambda actor, line: actor.count.remote(line), TEXT.splitlines()))
    total = sum(ray.get([c.result.remote() for c in counters]), collections.Counter())
    print("words a line:", lengths)
    print("most frequent:", total.most_common(2))


if __name__ == "__main__":
    main()
