# SPDX-License-Identifier: Apache-2.0
"""One session a module, unless a test starts its own."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest
import ray
from common import gcs_pid


# A runtime that stands on this machine is somebody else's: tests start their own.
os.environ["RAY_ADDRESS"] = "local"


def start_session():
    return ray.init(num_cpus=4, num_gpus=1, resources={"custom": 2}, log_to_driver=False)


@pytest.fixture(scope="module")
def session():
    """Ray with four processors and a GPU, for all tests of a module."""
    ray.shutdown()
    yield start_session()
    ray.shutdown()


@pytest.fixture
def fresh(request):
    """No session, before and after; the module's, if there is one, is followed by another."""
    ray.shutdown()
    yield
    ray.shutdown()
    if "session" in request.fixturenames:
        start_session()


@pytest.fixture
def run_program():
    """Runs a program of its own: (exit code, stdout, stderr)."""

    def run(code, *arguments, timeout=240, env=None):
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code), *arguments],
            capture_output=True,
            text=True,
            timeout=timeout,
            env=env,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.fixture
def kill_gcs():
    """Kills ray-gcs and waits until another one is there."""

    def kill():
        pid = gcs_pid()
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        while gcs_pid() in (None, pid):
            time.sleep(0.005)

    return kill
