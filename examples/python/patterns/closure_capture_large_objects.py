#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Anti-pattern: a remote function that mentions a large object from outside.

The object becomes part of the function's definition, which is pickled and sent as a whole. Pass a
reference as an argument instead, or make the object inside: the function is small again.

    python closure_capture_large_objects.py
"""

import ray

table = bytes(8 << 20)


@ray.remote
def capturing(i):
    return table[i]


@ray.remote
def taking(i, table):
    return table[i]


def making(make_table):
    """A task whose table is made where it runs, by `make_table`."""

    @ray.remote
    def lookup(i):
        return make_table()[i]

    return lookup


def definition_size(task):
    """What is sent to each worker that runs the task."""
    return len(ray.cloudpickle.dumps(task._function))


def main():
    ray.init("local", num_cpus=2)
    ref = ray.put(table)
    lookup = making(lambda: bytes(8 << 20))
    results = ray.get([capturing.remote(5), taking.remote(5, ref), lookup.remote(5)])
    assert results == [0, 0, 0]
    sizes = [definition_size(task) for task in (capturing, taking, lookup)]
    for name, size in zip(("captured", "argument", "made inside"), sizes):
        text = f"{size / (1 << 20):.0f} MiB" if size > 1 << 20 else "less than 2 KiB"
        print(f"{name}: the definition has {text}")
    assert sizes[0] > 8 << 20
    assert max(sizes[1:]) < 2048


if __name__ == "__main__":
    main()
