# SPDX-License-Identifier: Apache-2.0
"""What a long-lived driver keeps of processes that came and went."""

import ctypes
import gc
import os
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
        # The dead are remembered for a second, whatever happens.
        time.sleep(1.5)

    wave(40)
    before = allocated()
    wave(200)
    # A record of each took 350 bytes.
    assert (allocated() - before) / 200 < 180
