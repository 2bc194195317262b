# SPDX-License-Identifier: Apache-2.0
"""Processes without a free descriptor: what needs one waits, and goes on when there is one."""

import contextlib
import os
import resource

import pytest
import ray

pytestmark = pytest.mark.usefixtures("session")


@contextlib.contextmanager
def no_descriptors():
    """Takes all that this process may still open."""
    held = []
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 20, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                held.append(os.open("/dev/null", os.O_RDONLY))
        yield
    finally:
        for fd in held:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@ray.remote(num_cpus=0)
class Process:
    def pid(self):
        return os.getpid()

    def starve(self):
        self.starved = no_descriptors()
        self.starved.__enter__()

    def feed(self):
        self.starved.__exit__(None, None, None)


@ray.remote(num_cpus=0)
def ask(actor):
    return ray.get(actor.pid.remote())


@ray.remote
def square(x):
    return x * x


def test_a_driver_without_descriptors():
    old = Process.remote()
    pid = ray.get(old.pid.remote())
    with no_descriptors():
        actors = [Process.remote() for _ in range(3)]
        calls = [actor.pid.remote() for actor in actors]
        tasks = [square.remote(x) for x in range(20)]
        # There is a connection already with this one.
        assert ray.get(old.pid.remote()) == pid
        ray.wait([*calls, *tasks], num_returns=23, timeout=0.3)
    assert len(set(ray.get(calls))) == 3
    assert ray.get(tasks) == [x * x for x in range(20)]


def test_an_actor_without_descriptors():
    actor = Process.remote()
    pid = ray.get(actor.pid.remote())
    ray.get(actor.starve.remote())
    asked = [ask.remote(actor) for _ in range(3)]
    ray.wait(asked, num_returns=3, timeout=0.3)
    assert ray.get(actor.pid.remote()) == pid
    ray.get(actor.feed.remote())
    assert ray.get(asked) == [pid] * 3
