# SPDX-License-Identifier: Apache-2.0
"""The event loops of an async actor.

Each concurrency group has a loop; that of the default group is the main thread's. A loop is
asyncio's own, with a selector that waits in libray: there calls arrive and begin, and awaited
references become ready, without another thread or a system call in between.
"""

from __future__ import annotations

import asyncio
import selectors
import sys
from typing import TYPE_CHECKING, Any

from ray import _native

if TYPE_CHECKING:
    from collections.abc import Callable

_OVER, _READABLE = 1, 2  # what loop_turn tells

_loops: dict[str, asyncio.AbstractEventLoop] = {}
_warned: set[str] = set()


class _Selector(selectors.EpollSelector):
    """Waits in libray for calls and references, and, through it, for the loop's descriptors."""

    def __init__(self) -> None:
        super().__init__()
        self.inbox = _native.Inbox()
        self.over = False
        self.stop: Callable[[], None] | None = None
        self._again = True  # descriptors may be ready though no edge will tell

    def _look(self) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        self._again = bool(events)
        return events

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """One turn: events of descriptors; calls that came are tasks of the loop when it ends."""
        events = self._look() if self._again else []
        wait = 0.0 if events else -1.0 if timeout is None else max(timeout, 0.0)
        told = _native.loop_turn(self.inbox, self.fileno(), wait)
        if told & _READABLE:
            if events:
                self._again = True
            else:
                events = self._look()
        if told & _OVER and not self.over:
            self.over = True
            assert self.stop is not None
            self.stop()
        return events


def _open(group: str) -> asyncio.AbstractEventLoop:
    """Makes the loop of a group, for the calling thread."""
    selector = _Selector()
    loop = asyncio.SelectorEventLoop(selector)
    selector.stop = loop.stop
    loop._ray_inbox = selector.inbox  # type: ignore[attr-defined]
    asyncio.set_event_loop(loop)
    _native.loop_begin(loop.create_task)
    _loops[group] = loop
    return loop


def construct(cls: type, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[bool, Any]:
    """Makes the actor's instance within its running loop: (True, it) or (False, what it raised)."""

    async def make() -> tuple[bool, Any]:
        try:
            return True, cls(*args, **kwargs)
        except BaseException as exc:
            # Without the frame of this function.
            return False, exc.with_traceback(exc.__traceback__ and exc.__traceback__.tb_next)

    return _open("").run_until_complete(make())


def serve(group: str) -> None:
    """Runs the loop of a group until the process is to leave."""
    loop = _loops.get(group) or _open(group)
    selector = loop._selector  # type: ignore[attr-defined]
    while not selector.over:
        try:
            loop.run_forever()
        except BaseException:  # raised by a callback or task of the user's own: the actor goes on
            sys.excepthook(*sys.exc_info())


def warn_blocking(what: str) -> None:
    """Says once that a loop stands still in ray.get or ray.wait."""
    if what in _warned:
        return
    _warned.add(what)
    import logging

    advice = (
        "Please use `await` on object ref with asyncio.gather if you want to yield execution to "
        "the event loop instead."
        if what == "get"
        else "Please use `await` on object ref with asyncio.wait."
    )
    logging.getLogger("ray._private.worker").warning(
        "Using blocking ray.%s inside async actor. This blocks the event loop. %s", what, advice
    )
