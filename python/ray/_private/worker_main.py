# SPDX-License-Identifier: Apache-2.0
"""A worker process, from the fork to its exit."""

from __future__ import annotations

import os
import sys
from typing import NoReturn


def prepare() -> None:
    """Called in the zygote, once, for all the workers that it will fork."""
    for stream in (sys.stdout, sys.stderr):
        # The raylet's file takes the place of the descriptor that the stream writes to.
        if stream is not None:
            stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
    import faulthandler

    # A crash of the interpreter writes where it happened: the caller gets those lines.
    faulthandler.enable(file=2, all_threads=False)
    sys.argv[:] = [""]


def main() -> NoReturn:
    """Runs tasks until told to leave, then ends the process: exit handlers, output.

    Every page that this touches is copied in each worker, so it does next to nothing. Random
    numbers are the process's own: the module `random` sees to it at a fork.
    """
    from ray import _native

    code = 1
    try:
        code = _native.worker_run()
    except BaseException:
        sys.excepthook(*sys.exc_info())  # else nobody would know: _leave doesn't return
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
