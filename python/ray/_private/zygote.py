# SPDX-License-Identifier: Apache-2.0
"""The warmed interpreter that forks workers.

The raylet starts it with the working directory and environment that the driver had at ``ray.init``;
the search path comes on the command line. It imports what every worker needs, but never NumPy and
its like: workers that inherit a random generator all draw the same numbers, and numeric libraries
fix their threads when loaded. It has one thread and serves fork requests until the raylet goes.
"""

from __future__ import annotations

import gc
import os
import sys

# What tasks and cloudpickle commonly need; cheap to share, since forked pages are shared.
_PRELOADED = (
    "cloudpickle",
    "collections",
    "contextlib",
    "functools",
    "itertools",
    "json",
    "linecache",
    "logging",
    "pickle",
    "random",
    "threading",
    "time",
    "traceback",
    "typing",
    "ray.actor",
    "ray.exceptions",
    "ray.remote_function",
    "ray.runtime_context",
    "ray._private.api",
    "ray._private.definitions",
    "ray._private.executor",
    "ray._private.serialization",
    "ray._private.worker_main",
)


def _preload() -> None:
    import importlib

    for name in _PRELOADED:
        importlib.import_module(name)
    try:
        # It can only learn where the process title lives before anybody has written one, and does
        # so when it is first asked.
        importlib.import_module("setproctitle").getproctitle()
    except ImportError:
        pass


def main() -> None:
    """Serves fork requests; in a forked child, becomes a worker."""
    _preload()
    from ray import _native
    from ray._private import worker_main

    worker_main.prepare()
    gc.collect()
    gc.freeze()  # collections in workers must not touch, and so copy, what is shared
    outcome = _native.zygote_run()
    if outcome == 1:
        worker_main.main()
    sys.stdout.flush()
    os._exit(0 if outcome == 0 else 1)
