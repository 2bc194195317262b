# SPDX-License-Identifier: Apache-2.0
"""References as futures: ``ref.future()``, ``await ref``.

One thread of this process, started when first needed, calls back when references become ready.
"""

from __future__ import annotations

import _thread
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from ray import _native

if TYPE_CHECKING:
    import asyncio
    import concurrent.futures

_started = False


def _run() -> None:
    while True:
        for callback, cancelled in _native.take_ready():
            try:
                callback(cancelled)
            except BaseException:
                import sys

                sys.excepthook(*sys.exc_info())
            del callback  # while this waits, nothing is kept that the callback refers to


def when_ready(ref: _native.ObjectRef, callback: Callable[[bool], None]) -> None:
    """Calls `callback(cancelled)` from the callback thread when the reference is ready."""
    global _started
    if not _started:
        _started = True
        _thread.start_new_thread(_run, ())
    _native.on_ready(ref, callback)


def future(ref: _native.ObjectRef) -> concurrent.futures.Future[Any]:
    """A future that gets the reference's value, or its exception. It never cancels the task."""
    import concurrent.futures

    made: concurrent.futures.Future[Any] = concurrent.futures.Future()

    def finish(cancelled: bool) -> None:
        if not made.set_running_or_notify_cancel():
            return
        try:
            if cancelled:
                raise RuntimeError("Ray was shut down before the object was ready.")
            value = _native.get(ref)
        except BaseException as exc:
            made.set_exception(exc)
        else:
            made.set_result(value)

    when_ready(ref, finish)
    made.object_ref = ref  # type: ignore[attr-defined]
    return made


def as_future(ref: _native.ObjectRef) -> asyncio.Future[Any]:
    """An asyncio future for the running loop."""
    import asyncio

    return asyncio.wrap_future(future(ref))


def await_ref(ref: _native.ObjectRef) -> Generator[Any, None, Any]:
    """What ``await ref`` iterates over."""
    return as_future(ref).__await__()


def on_completed(ref: _native.ObjectRef, callback: Callable[[Any], None]) -> None:
    """Calls `callback` with the value, or with the exception."""

    def finish(cancelled: bool) -> None:
        try:
            value = _native.get(ref, timeout=0)
        except Exception as exc:
            value = exc
        callback(value)

    when_ready(ref, finish)
