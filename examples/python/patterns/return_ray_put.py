#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Anti-pattern: a task that returns ``ray.put(value)`` instead of the value.

The caller gets a reference to a reference, fetches twice, and small values can't travel with the
reply. What is worse, the worker owns the object, and the object ends with the worker. A value that
is returned as it is belongs to the caller. So do values that are yielded, however many they are.

    python return_ray_put.py
"""

import os
import time

import ray
from ray.exceptions import OwnerDiedError


@ray.remote
def put_and_return(value):
    return ray.put(value), os.getpid()


@ray.remote(num_returns=2)
def just_return(value):
    return value, os.getpid()


@ray.remote
def yield_each(text):
    yield from text.split()


def gets_needed(ref):
    """How often one has to fetch until there is a value."""
    count = 0
    while isinstance(ref, ray.ObjectRef):
        ref = ray.get(ref)
        count += 1
    return count


def end(pid):
    """Ends a worker, as a crash would, and waits until it is gone."""
    os.kill(pid, 9)
    deadline = time.monotonic() + 30
    while os.path.exists(f"/proc/{pid}") and time.monotonic() < deadline:
        time.sleep(0.01)


def main():
    ray.init("local", num_cpus=2)
    inner, pid = ray.get(put_and_return.remote("precious"))
    print("ray.put in the task: fetched", 1 + gets_needed(inner), "times to have the value")
    end(pid)
    try:
        print("  ", ray.get(inner))
    except OwnerDiedError:
        print("  its worker ended: OwnerDiedError, the value is lost")

    ref, pid_ref = just_return.remote("precious")
    print("returned directly:   fetched", gets_needed(ref), "time to have the value")
    end(ray.get(pid_ref))
    value = ray.get(ref)
    print(f"  its worker ended: still {value!r}")
    assert value == "precious"

    words = [ray.get(ref) for ref in yield_each.remote("as many as there are")]
    print(f"yielded one by one:  {len(words)} values, and nobody had to know how many")
    assert words == ["as", "many", "as", "there", "are"]


if __name__ == "__main__":
    main()
