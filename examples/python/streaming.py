# SPDX-License-Identifier: Apache-2.0
"""A pipeline of remote generators: items flow while they are made, and nobody makes too many.

    python examples/python/streaming.py
"""

import itertools

import ray


@ray.remote(_generator_backpressure_num_objects=4)
def naturals():
    """Without an end: it is four items ahead of its reader at most, and is closed with it."""
    yield from itertools.count(1)


@ray.remote(_generator_backpressure_num_objects=4)
def squares(generator_of_numbers):
    """Reads one generator and is another."""
    for ref in generator_of_numbers.remote():
        yield ray.get(ref) ** 2


def main():
    ray.init("local", num_cpus=2)
    stream = squares.remote(naturals)
    read = [ray.get(next(stream)) for _ in range(5)]
    del stream
    print(f"read {len(read)} of many: {read}; the reader has enough")
    ray.shutdown()


if __name__ == "__main__":
    main()
