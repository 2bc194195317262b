# SPDX-License-Identifier: Apache-2.0
"""A worker process, from the fork to its exit."""

from __future__ import annotations

import os
import sys
from typing import NoReturn


def _fresh_streams() -> None:
    """Line-buffered output on the descriptors that the raylet gave."""
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = open(
            descriptor, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    try:
        sys.stdin = sys.__stdin__ = open(os.devnull, encoding="utf-8")
    except OSError:
        pass


def _reseed() -> None:
    """Gives this process random numbers of its own."""
    import random

    random.seed()
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


def _show_crashes() -> None:
    """Has a crash of the interpreter write where it happened: the caller gets those lines."""
    import faulthandler

    faulthandler.enable(file=2, all_threads=False)


def main() -> NoReturn:
    """Runs tasks until told to leave, then ends the process: exit handlers, output."""
    from ray import _native

    sys.argv[:] = [""]
    _fresh_streams()
    _reseed()
    _show_crashes()
    code = 1
    try:
        code = _native.worker_run()
    finally:
        _leave(code)


def _leave(code: int) -> NoReturn:
    import atexit

    from ray._private.executor import flush_output

    try:
        atexit._run_exitfuncs()
    except BaseException:
        sys.excepthook(*sys.exc_info())
    flush_output()
    os._exit(code)
