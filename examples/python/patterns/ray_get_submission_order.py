#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Anti-pattern: results are handled in the order in which their tasks were submitted.

One slow task in front holds up all that are done already. ``ray.wait`` gives them as they finish.

    python ray_get_submission_order.py
"""

import time

import ray


@ray.remote
def work(i):
    if i == 0:  # the straggler
        time.sleep(0.4)
    return i


def submit():
    return [work.remote(i) for i in range(6)]


def handle(results, start):
    """Handles one result after the other; in which order, and when the first was there."""
    order, first = [], None
    for result in results:
        order.append(result)
        first = first or time.perf_counter() - start
        time.sleep(0.02)  # what is done with a result
    return order, first, time.perf_counter() - start


def by_submission(refs):
    for ref in refs:
        yield ray.get(ref)


def by_completion(refs):
    while refs:
        (ready,), refs = ray.wait(refs, num_returns=1)
        yield ray.get(ready)


def main():
    ray.init("local", num_cpus=2)
    ray.get(submit())  # the worker processes are there now
    for name, results in (("submitted", by_submission), ("finished", by_completion)):
        start = time.perf_counter()
        order, first, seconds = handle(results(submit()), start)
        print(f"as {name}: handled in the order {order}")
        print(f"    (first after {first * 1e3:.1f} ms, all after {seconds * 1e3:.0f} ms)")
        assert sorted(order) == list(range(6))
        if results is by_submission:
            assert order[0] == 0


if __name__ == "__main__":
    main()
