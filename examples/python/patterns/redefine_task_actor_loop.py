#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Anti-pattern: decorating the same function or class again and again.

Each decoration makes a new remote function, which is pickled, sent and unpickled anew. Decorate
once, outside of the loop, and vary arguments and ``options``.

    python redefine_task_actor_loop.py
"""

import ray

ROUNDS = 5


class Counted:
    """Something a definition refers to; counts how often that definition is pickled."""

    pickled = 0

    def __reduce__(self):
        Counted.pickled += 1
        return int, ()


def redefined(zero):
    results = []
    for i in range(ROUNDS):

        @ray.remote
        def double(x):
            return 2 * x + (0 if zero is None else 0)

        results.append(double.remote(i))
    return ray.get(results)


def defined_once(zero):
    @ray.remote
    def double(x):
        return 2 * x + (0 if zero is None else 0)

    return ray.get([double.options(name=f"double {i}").remote(i) for i in range(ROUNDS)])


def main():
    ray.init("local", num_cpus=2)
    for run, expected in ((redefined, ROUNDS), (defined_once, 1)):
        Counted.pickled = 0
        assert run(Counted()) == [0, 2, 4, 6, 8]
        name = run.__name__.replace("_", " ")
        print(f"{name}: {ROUNDS} calls, the definition was pickled {Counted.pickled} times")
        assert Counted.pickled == expected


if __name__ == "__main__":
    main()
