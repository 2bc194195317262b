# SPDX-License-Identifier: Apache-2.0
"""What workloads.py and peers.py share: a registry of workloads, the way they are timed, and the
command line that runs some of them in this process and prints one JSON object for each result.

A result is {"workload", "name", "value", "unit", "better", "samples"}; a workload that cannot run
here gives {"workload", "name", "skipped"} with the reason, and one that failed {..., "error"}.
Standard library only.
"""

import argparse
import json
import os
import statistics
import sys
import time
import traceback


class Skip(Exception):
    """Raised by a workload that this runtime, or this machine, can not run; says why."""


class Registry:
    """Workloads by name, in the order in which they were written."""

    def __init__(self):
        self.workloads = {}

    def workload(self, name, **options):
        def add(function):
            if name in self.workloads:
                raise ValueError("two workloads are called %r" % name)
            self.workloads[name] = (function, options)
            return function

        return add

    def select(self, only):
        return [name for name in self.workloads if not only or only in name]


class Bench:
    """Handed to each workload: how long to measure, how large to be, and where results go."""

    def __init__(self, workload, options):
        self.workload = workload
        self.warmup_s = options.warmup
        self.round_s = options.seconds
        self.rounds = options.rounds
        self.scale = options.scale
        self.limit_s = options.limit
        self.cpus = len(os.sched_getaffinity(0))
        self.many = max(2, self.cpus // 2)
        self.reported = 0

    def size(self, count):
        """A count of the full benchmark, made smaller in quick mode."""
        return max(1, int(count * self.scale))

    def report(self, name, value, unit, better="higher", samples=None):
        self.reported += 1
        self._print(name, value=value, unit=unit, better=better, samples=samples or [value])

    def rate(self, step, units, unit="calls/s", name=None):
        """Repeats `step`, which does `units` units of work, and reports units a second.

        At least one step warms up and at least one is measured; rounds that would begin after the
        time limit of the workload are left out.
        """
        begin = now = time.perf_counter()
        while True:
            step()
            now = time.perf_counter()
            if now - begin >= self.warmup_s:
                break
        samples = []
        while len(samples) < self.rounds and (not samples or now - begin < self.limit_s):
            count = 0
            round_begin = time.perf_counter()
            while True:
                step()
                count += 1
                now = time.perf_counter()
                if now - round_begin >= self.round_s:
                    break
            samples.append(count * units / (now - round_begin))
        self.report(name or self.workload, statistics.median(samples), unit, samples=samples)

    def durations(self, name, step, unit="s", factor=1.0, count=None):
        """Reports the median of what `step` returns (seconds), each call measured by itself."""
        samples = [step() * factor for _ in range(count or self.rounds)]
        self.report(name, statistics.median(samples), unit, better="lower", samples=samples)

    def _print(self, name, **fields):
        print(json.dumps({"workload": self.workload, "name": name, **fields}), flush=True)

    def run(self, function):
        """Runs one workload; true unless it failed."""
        try:
            function(self)
        except Skip as skip:
            self._print(self.workload, skipped=str(skip))
        except Exception as error:  # whatever a runtime raises is a result of the benchmark
            traceback.print_exc()
            text = "%s: %s" % (type(error).__name__, error)
            self._print(self.workload, error=text.strip().splitlines()[0][:300])
            return False
        return True


def parse_arguments(description, argv=None):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--list", action="store_true", help="print the names and end")
    parser.add_argument("--only", default="", metavar="SUBSTR", help="names that contain this")
    parser.add_argument("--exact", default="", metavar="NAME", help="the one with this name")
    parser.add_argument("--warmup", type=float, default=1.0, help="seconds before measuring")
    parser.add_argument("--seconds", type=float, default=2.0, help="least seconds of a round")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--scale", type=float, default=1.0, help="factor on counts, 1 is full size")
    parser.add_argument(
        "--limit", type=float, default=60.0, help="seconds after which no round begins"
    )
    parser.add_argument(
        "--quick", action="store_true", help="a smoke run: short, and 2 %% of the size"
    )
    options = parser.parse_args(argv)
    if options.quick:
        options.warmup, options.seconds, options.rounds = 0.2, 0.3, 1
        options.scale, options.limit = 0.02, 5.0
    return options


def main(description, registry, start=None, stop=None):
    """Runs the selected workloads; `start` is called first unless a workload is `alone`."""
    options = parse_arguments(description)
    names = [options.exact] if options.exact else registry.select(options.only)
    if options.list:
        print("\n".join(names))
        return 0
    unknown = [name for name in names if name not in registry.workloads]
    if unknown or not names:
        print("no such workload: %s" % (options.exact or options.only), file=sys.stderr)
        return 2
    good = True
    for name in names:
        function, features = registry.workloads[name]
        running = start is not None and not features.get("alone")
        try:
            if running:
                start()
            good = Bench(name, options).run(function) and good
        finally:
            if running and stop is not None:
                stop()
    return 0 if good else 1
