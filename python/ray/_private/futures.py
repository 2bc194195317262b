# SPDX-License-Identifier: Apache-2.0
"""References as futures: ``ref.future()``, and what asyncio asks of them.

For ``ref.future()`` one thread of this process, started when first needed, calls back when
references become ready. Event loops have an inbox instead (``await ref`` is C).
"""

from __future__ import annotations

import _thread
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ray import _native

if TYPE_CHECKING:
    import asyncio
    import concurrent.futures

_started = False
_thread_id = 0


def on_callback_thread() -> bool:
    """Whether this is the thread that calls back: what it looks at is there or gone for good, so
    it never starts Ray, which the main thread may just be ending."""
    return _thread.get_ident() == _thread_id


def _run() -> None:
    global _thread_id
    _thread_id = _thread.get_ident()
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


def make_inbox(loop: asyncio.AbstractEventLoop) -> _native.Inbox:
    """What tells a loop of ready references, which it reads like any other descriptor."""
    inbox = _native.Inbox()
    loop.add_reader(inbox.fd(), inbox.drain)
    loop._ray_inbox = inbox  # type: ignore[attr-defined]
    return inbox


def add_done_callback(ref: _native.ObjectRef, fn: Callable[[Any], object], context: Any) -> None:
    """As of a future: the running loop calls `fn(ref)` when the value is here."""

    def call(_: Any) -> None:
        fn(ref)

    awaited = ref.as_future()
    awaited.add_done_callback(call, context=context)
    awaited.add_done_callback(lambda done: done.cancelled() or done.exception())


def result(ref: _native.ObjectRef) -> Any:
    """As of a future: the value, which is here, or raises."""
    if not ref.done():
        import asyncio

        raise asyncio.InvalidStateError("Result is not set.")
    return _native.get(ref, timeout=0)


def exception(ref: _native.ObjectRef) -> BaseException | None:
    """As of a future: what `result` would raise, or None."""
    if not ref.done():
        import asyncio

        raise asyncio.InvalidStateError("Exception is not set.")
    try:
        _native.get(ref, timeout=0)
    except BaseException as exc:
        return exc
    return None


def on_completed(ref: _native.ObjectRef, callback: Callable[[Any], None]) -> None:
    """Calls `callback` with the value, or with the exception."""

    def finish(cancelled: bool) -> None:
        try:
            value = _native.get(ref, timeout=0)
        except Exception as exc:
            value = exc
        callback(value)

    when_ready(ref, finish)
