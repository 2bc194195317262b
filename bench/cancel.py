# SPDX-License-Identifier: Apache-2.0
"""How soon a running task stops when it is cancelled, in milliseconds; by what it is busy with.

    build/venv/bin/python bench/cancel.py [rounds]

From the call of ray.cancel to the raised TaskCancelledError, so it includes the reply.
"""

import os
import statistics
import sys
import tempfile
import time

import ray
from ray.exceptions import TaskCancelledError


@ray.remote(num_cpus=0)
def busy(what, gate):
    """Opens the gate and never ends."""
    with open(gate, "w", encoding="utf-8"):
        pass
    while True:
        if what == "a loop":
            continue
        if what == "time.sleep":
            time.sleep(1000)
        elif what == "ray.get":
            ray.get(busy.remote("time.sleep", f"{gate}.child"))
        elif what == "ray.wait":
            ray.wait([busy.remote("time.sleep", f"{gate}.child")])


def measure(what, gate):
    """One cancelled task: milliseconds."""
    ref = busy.remote(what, gate)
    while not os.path.exists(gate):
        time.sleep(0.001)
    time.sleep(0.01)  # until it is where it stays
    begin = time.perf_counter()
    ray.cancel(ref)
    try:
        ray.get(ref)
    except TaskCancelledError:
        return (time.perf_counter() - begin) * 1e3
    raise AssertionError("it ended by itself")


def main():
    """Prints one line for each kind of work."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    ray.init(num_cpus=2, log_to_driver=False)
    with tempfile.TemporaryDirectory() as folder:
        for what in ("a loop", "time.sleep", "ray.get", "ray.wait"):
            times = [measure(what, f"{folder}/{what}{i}") for i in range(rounds)]
            print(
                f"{what:12} median {statistics.median(times):6.2f} ms, "
                f"worst of {rounds} {max(times):6.2f} ms"
            )
    ray.shutdown()


if __name__ == "__main__":
    main()
