#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Estimates pi by throwing darts, on every processor of the machine.

Sampling tasks run in parallel, each in a worker process, and report to an actor how far they are.
Meanwhile the driver asks that actor and draws a progress bar.

    monte_carlo_pi.py [--samples N] [--tasks N]
"""

import argparse
import math
import os
import random
import sys
import time

import ray

REPORT_EVERY = 50_000
BAR_WIDTH = 40


@ray.remote
class Progress:
    """Collects how many samples were taken, and by which processes."""

    def __init__(self, total):
        self.total = total
        self.taken = 0
        self.workers = set()

    def report(self, count, pid):
        self.taken += count
        self.workers.add(pid)

    def state(self):
        return self.taken / self.total, len(self.workers)


@ray.remote
def sample(count, progress):
    """Throws `count` darts at the unit square; how many hit the quarter disc."""
    hits = 0
    draw = random.random
    for start in range(0, count, REPORT_EVERY):
        batch = min(REPORT_EVERY, count - start)
        for _ in range(batch):
            x, y = draw(), draw()
            hits += x * x + y * y <= 1.0
        reported = progress.report.remote(batch, os.getpid())
    ray.get(reported)  # calls run in order, so now all reports were counted
    return hits


def draw_bar(fraction, workers):
    """One line, drawn over the last one on a terminal."""
    filled = round(BAR_WIDTH * fraction)
    bar = "#" * filled + "." * (BAR_WIDTH - filled)
    line = f"[{bar}] {fraction:4.0%}  {workers} worker processes"
    if sys.stdout.isatty():
        print(f"\r{line}", end="", flush=True)
    else:
        print(line, flush=True)


def run(samples, tasks):
    """The estimate; draws the bar meanwhile."""
    progress = Progress.remote(samples)
    share, rest = divmod(samples, tasks)
    pending = [sample.remote(share + (i < rest), progress) for i in range(tasks)]
    refs = list(pending)
    period = 0.1 if sys.stdout.isatty() else 0.5
    while pending:
        _, pending = ray.wait(pending, num_returns=len(pending), timeout=period)
        draw_bar(*ray.get(progress.state.remote()))
    if sys.stdout.isatty():
        print()
    _, workers = ray.get(progress.state.remote())
    return 4 * sum(ray.get(refs)) / samples, workers


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--samples", type=int, default=8_000_000)
    parser.add_argument("--tasks", type=int, default=16)
    arguments = parser.parse_args()
    if arguments.tasks < 1 or arguments.samples < arguments.tasks:
        parser.error("there must be at least one task, and a sample for each")

    ray.init()
    start = time.perf_counter()
    pi, workers = run(arguments.samples, arguments.tasks)
    seconds = time.perf_counter() - start
    print(f"pi is about {pi:.6f} (off by {abs(pi - math.pi):.6f})")
    print(
        f"{arguments.samples / seconds:,.0f} samples/s: {arguments.samples:,} samples in "
        f"{seconds:.2f} s, by {workers} worker processes"
    )


if __name__ == "__main__":
    main()
