# SPDX-License-Identifier: Apache-2.0
"""What a long-lived driver keeps of processes that came and went."""

import ctypes
import gc
import os
import signal
import time

import pytest
import ray

pytestmark = pytest.mark.usefixtures("fresh")

FIELDS = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"


class MallInfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in FIELDS.split()]


def allocated():
    libc = ctypes.CDLL(None)
    libc.mallinfo2.restype = MallInfo
    gc.collect()
    info = libc.mallinfo2()
    return info.uordblks + info.hblkhd


def test_workers_that_are_gone_take_no_memory():
    ray.init(num_cpus=4, log_to_driver=False)

    @ray.remote(max_calls=1)
    def once():
        return os.getpid()

    def wave(count):
        pids = set()
        while len(pids) < count:
            pids.update(ray.get([once.remote() for _ in range(10)]))
        while any(os.path.exists(f"/proc/{pid}") for pid in pids):
            os.sched_yield()

    wave(40)
    time.sleep(1.5)  # the dead are remembered for a second, whatever happens
    before = allocated()
    wave(200)
    # A record of each took 350 bytes.
    end = time.monotonic() + 60
    while (allocated() - before) / 200 >= 180:
        assert time.monotonic() < end, f"{allocated() - before} bytes for 200 workers"
        time.sleep(0.1)


def test_workers_that_are_gone_leave_no_names():
    ray.init(num_cpus=2, log_to_driver=False)

    @ray.remote(max_calls=1)
    def leave():
        return os.getpid()

    @ray.remote(max_retries=0)
    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    @ray.remote(num_cpus=0)
    class Asker:
        def directory(self):
            # Where the worker's own socket is, with those of all.
            with open("/proc/net/unix") as lines:
                mark = f"/p{os.getpid()}-"
                return next(os.path.dirname(line.split()[7]) for line in lines if mark in line)

    asker = Asker.remote()
    directory = ray.get(asker.directory.remote())
    pids = ray.get([leave.remote() for _ in range(6)])
    for _ in range(3):
        with pytest.raises(ray.exceptions.WorkerCrashedError):
            ray.get(die.remote())

    def living():
        names = os.listdir(directory)
        return [n for n in names if n[0] == "p"], [n for n in names if n[0] == "w"]

    while True:
        by_pid, by_id = living()
        gone = [n for n in by_pid if not os.path.exists(f"/proc/{n[1:].split('-')[0]}")]
        if not gone and len(by_id) == len(by_pid):
            break
        time.sleep(0.01)
    assert not [n for n in by_pid if int(n[1:].split("-")[0]) in pids]
