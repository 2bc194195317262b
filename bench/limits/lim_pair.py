# SPDX-License-Identifier: Apache-2.0
"""Measures the bare Python pair, a fork from a warm interpreter, and the start of an interpreter.

Usage: lim_pair.py [seconds per measurement].  `_limpair` is looked for in the directory named by
LIM_PAIR_DIR, else beside this file.  Prints one JSON object a line.  Standard library only, so that
the forked zygote holds nothing but what the measurement is about.
"""

import json
import os
import socket
import statistics
import subprocess
import sys
import time

BATCH = 1000
FRAMES_A_WRITE = 64
CPUS = sorted(os.sched_getaffinity(0))
SERVE = """
import os
import sys
os.sched_setaffinity(0, {int(sys.argv[4])})
sys.path.insert(0, sys.argv[2])
import _limpair
def work(value):
    return value
_limpair.serve(int(sys.argv[1]), work, int(sys.argv[3]))
"""


def report(name, value, unit):
    print(json.dumps({"name": name, "value": value, "unit": unit}), flush=True)


def rate(step, calls_per_step, seconds):
    """Median calls a second of `step`, which makes `calls_per_step` calls."""
    step()
    samples = []
    stop = time.perf_counter() + seconds
    while time.perf_counter() < stop or not samples:
        begin = time.perf_counter()
        step()
        samples.append(calls_per_step / (time.perf_counter() - begin))
    return statistics.median(samples)


class Pair:
    """A client and the process that serves it; at most `frames` calls share one write.

    Both are bound to a processor: a call on one processor takes less time than one between two,
    and the scheduler would choose now this, now that.
    """

    def __init__(self, module, module_dir, frames, server_cpu=CPUS[-1]):
        self.socket, theirs = socket.socketpair()
        with theirs:
            fd = theirs.fileno()
            command = [sys.executable, "-S", "-c", SERVE, str(fd), module_dir]
            command += [str(frames), str(server_cpu)]
            self.peer = subprocess.Popen(command, pass_fds=[fd], stdin=subprocess.DEVNULL)
        os.sched_setaffinity(0, {CPUS[0]})
        self.client = module.Client(self.socket.fileno(), frames)

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        os.sched_setaffinity(0, CPUS)
        self.socket.close()
        try:
            status = self.peer.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.peer.kill()
            self.peer.wait()
            raise
        if status != 0:
            raise RuntimeError("the serving process failed with status %d" % status)

    def one_by_one(self):
        call = self.client.call
        for i in range(200):
            if call(i) != i:
                raise RuntimeError("the pair answers wrongly")

    def batch(self):
        submit = self.client.submit
        for i in range(BATCH):
            submit(i)
        if self.client.collect(BATCH)[-1] != BATCH - 1:
            raise RuntimeError("the pair answers wrongly")

    def encode(self):
        encode = self.client.encode
        for i in range(BATCH):
            encode(i)


def measure_pair(module, module_dir, seconds):
    with Pair(module, module_dir, 1) as pair:
        report("python pair one by one", rate(pair.one_by_one, 200, seconds), "calls/s")
        value = rate(pair.batch, BATCH, seconds)
        report("python pair in batches of 1000, one write a call", value, "calls/s")
    with Pair(module, module_dir, 1, CPUS[0]) as pair:
        value = rate(pair.one_by_one, 200, seconds)
        report("python pair one by one, on one processor", value, "calls/s")
    with Pair(module, module_dir, FRAMES_A_WRITE) as pair:
        value = rate(pair.batch, BATCH, seconds)
        report("python pair in batches of 1000, one write for 64", value, "calls/s")
        value = rate(pair.encode, BATCH, seconds / 4)
        report("python method call into C", value, "calls/s")


def measure_fork(module, seconds):
    try:
        import cloudpickle  # noqa: F401  (what a zygote has loaded)
    except ImportError:
        print("no cloudpickle: the fork is measured from a bare interpreter", file=sys.stderr)
    reported, reaped = [], []
    stop = time.perf_counter() + seconds
    while time.perf_counter() < stop or not reported:
        to_report, to_reap = module.fork_child(int)
        reported.append(to_report * 1e3)
        reaped.append(to_reap * 1e3)
    report("fork from a warm zygote to the child's report", statistics.median(reported), "ms")
    report("fork from a warm zygote until reaped", statistics.median(reaped), "ms")


def measure_start(name, statement, seconds):
    samples = []
    stop = time.perf_counter() + seconds
    while time.perf_counter() < stop or len(samples) < 3:
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-c", statement], check=True, stdin=subprocess.DEVNULL)
        samples.append((time.perf_counter() - begin) * 1e3)
    report(name, statistics.median(samples), "ms")


def main():
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    module_dir = os.environ.get("LIM_PAIR_DIR") or os.path.dirname(os.path.abspath(__file__))
    sys.path.insert(0, module_dir)
    import _limpair

    measure_pair(_limpair, module_dir, seconds)
    measure_fork(_limpair, seconds)
    measure_start("start of a plain interpreter", "pass", seconds / 2)
    try:
        import cloudpickle  # noqa: F401
    except ImportError:
        return
    measure_start("start of an interpreter with cloudpickle", "import cloudpickle", seconds / 2)


if __name__ == "__main__":
    main()
