# SPDX-License-Identifier: Apache-2.0
"""What calls of remote generators give."""

from __future__ import annotations

from collections import deque
from ray import _native

TYPE_CHECKING = False  # see ray/__init__.py
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, NoReturn

_PENDING, _READY, _OVER = 0, 1, 2  # of StreamBase._state

_NOT_PASSED = (
    "You cannot return or pass a generator to other task. Passing an ObjectRefGenerator is not "
    "allowed: take its references and pass those."
)


class ObjectRefGenerator(_native.StreamBase):
    """The references that a streaming generator yields, as it yields them.

    ``next`` (also by ``for``) waits for the next reference; ``async for`` does the same in an event
    loop; `ray.wait` takes a generator among references. If the task fails, its exception is that of
    the last reference. When this object goes, what was not taken is freed, and the task is ended at
    its next ``yield``, unless somebody holds `completed()`.

    It is for one thread at a time, and can't be sent to others.
    """

    __slots__ = ("__weakref__",)

    @property
    def _generator_ref(self) -> _native.ObjectRef:
        return self.completed()

    def next_ready(self) -> bool:
        """Whether ``next`` gives a reference without waiting; False also at the end."""
        return self._state() == _READY

    def is_finished(self) -> bool:
        """Whether the task has ended and all its references are taken."""
        return self._state() == _OVER

    def task_id(self) -> Any:
        """The id of the task that yields."""
        return self.completed().task_id()

    def _next_sync(self, timeout_s: float | None = None) -> _native.ObjectRef:
        """The next reference; ``ObjectRef.nil()`` when it hasn't come in time."""
        ref = self._take(None if timeout_s is None or timeout_s < 0 else timeout_s)
        return _native.ObjectRef.nil() if ref is None else ref

    async def _next_async(self, timeout_s: float | None = None) -> _native.ObjectRef:
        """The same without blocking the running event loop; StopAsyncIteration at the end."""
        if self._state() == _PENDING:
            import asyncio

            here = _native.ready_future(self._peek())
            await asyncio.wait([here], timeout=timeout_s)
        return self._take_now()

    def _take_now(self) -> _native.ObjectRef:
        try:
            ref = self._take(0)
        except StopIteration:
            pass
        else:
            return _native.ObjectRef.nil() if ref is None else ref
        raise StopAsyncIteration

    def __aiter__(self) -> ObjectRefGenerator:
        return self

    async def __anext__(self) -> _native.ObjectRef:
        if self._state() == _PENDING:
            await _native.ready_future(self._peek())
        return self._take_now()

    def send(self, value: Any) -> NoReturn:
        raise NotImplementedError("`gen.send` is not supported.")

    def throw(self, *exception: Any) -> NoReturn:
        raise NotImplementedError("`gen.throw` is not supported.")

    def close(self) -> NoReturn:
        raise NotImplementedError("`gen.close` is not supported.")

    async def asend(self, value: Any) -> NoReturn:
        raise NotImplementedError("`gen.asend` is not supported.")

    async def athrow(self, *exception: Any) -> NoReturn:
        raise NotImplementedError("`gen.athrow` is not supported.")

    async def aclose(self) -> NoReturn:
        raise NotImplementedError("`gen.aclose` is not supported.")

    def __reduce__(self) -> NoReturn:
        raise TypeError(_NOT_PASSED)

    def __getstate__(self) -> NoReturn:
        raise TypeError(_NOT_PASSED)

    def __repr__(self) -> str:
        return f"ObjectRefGenerator({self.completed().hex()})"


class DynamicObjectRefGenerator:
    """The references that a task with ``num_returns="dynamic"`` has made: its value."""

    def __init__(self, refs: list[_native.ObjectRef]) -> None:
        self._refs = deque(refs)

    def __iter__(self) -> Iterator[_native.ObjectRef]:
        while self._refs:
            yield self._refs.popleft()

    def __len__(self) -> int:
        return len(self._refs)

    def __repr__(self) -> str:
        return f"DynamicObjectRefGenerator({len(self._refs)} references)"
