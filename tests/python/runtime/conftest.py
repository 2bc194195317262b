# SPDX-License-Identifier: Apache-2.0
"""One session a module, unless a test starts its own."""

import os
import subprocess
import sys
import textwrap

import pytest
import ray


# A runtime that stands on this machine is somebody else's: tests start their own.
os.environ["RAY_ADDRESS"] = "local"


@pytest.fixture(scope="module")
def session():
    """Ray with four processors and a GPU, for all tests of a module."""
    ray.shutdown()
    context = ray.init(num_cpus=4, num_gpus=1, resources={"custom": 2}, log_to_driver=False)
    yield context
    ray.shutdown()


@pytest.fixture
def fresh():
    """No session, before and after."""
    ray.shutdown()
    yield
    ray.shutdown()


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
