#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Pattern: ``ray.wait`` keeps a fast producer from piling up calls.

Whoever submits faster than the work is done fills memory with calls that wait. Here the producer
waits for one call to end whenever enough are under way.

    python limit_pending_tasks.py
"""

import ray

CALLS = 200
LIMIT = 10


@ray.remote
class Worker:
    """Handles requests one after the other."""

    def __init__(self):
        self.handled = 0

    def handle(self, payload):
        self.handled += 1
        return len(payload)


def without_limit(worker):
    """Submits everything at once; how many calls were outstanding at most."""
    pending = [worker.handle.remote(b"x" * i) for i in range(CALLS)]
    most = len(pending)
    return most, sum(ray.get(pending))


def with_limit(worker):
    """Never has more than LIMIT calls outstanding."""
    pending, most, total = [], 0, 0
    for i in range(CALLS):
        if len(pending) == LIMIT:
            ready, pending = ray.wait(pending, num_returns=1)
            total += sum(ray.get(ready))
        pending.append(worker.handle.remote(b"x" * i))
        most = max(most, len(pending))
    return most, total + sum(ray.get(pending))


def main():
    ray.init("local", num_cpus=2)
    worker = Worker.remote()
    most, total = without_limit(worker)
    print(f"without a limit: {CALLS} calls, up to {most} outstanding, sum {total}")
    limited, limited_total = with_limit(worker)
    print(f"with a limit:    {CALLS} calls, up to {limited} outstanding, sum {limited_total}")
    assert (most, limited) == (CALLS, LIMIT)
    assert total == limited_total == CALLS * (CALLS - 1) // 2


if __name__ == "__main__":
    main()
