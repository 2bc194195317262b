# SPDX-License-Identifier: Apache-2.0
"""A fixed set of actors that share a stream of calls."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import ray

if TYPE_CHECKING:
    from ray.actor import ActorHandle

_TIMED_OUT = "Timed out waiting for result"


class _Call(NamedTuple):
    actor: Any
    result: Any  # a reference, or a list of them

    @property
    def ref(self) -> Any:
        """One reference of the call: all of a call's are ready at the same time."""
        return self.result[0] if isinstance(self.result, list) else self.result


class ActorPool:
    """Gives calls to whichever of its actors is free; one call an actor at a time.

    ``fn`` takes an actor and a value, and makes the call::

        pool = ActorPool([Adder.remote(), Adder.remote()])
        assert list(pool.map(lambda a, v: a.add.remote(v), [1, 2, 3])) == [2, 3, 4]
    """

    def __init__(self, actors: Iterable[ActorHandle]) -> None:
        self._idle: list[Any] = list(actors)
        self._running: dict[int, _Call] = {}  # by number, in the order of submission
        self._busy: set[int] = set()  # those of them whose actors have not been freed
        self._waiting: deque[tuple[Callable[[Any, Any], Any], Any]] = deque()
        self._next_number = 0
        self._next_return = 0

    # ---- submitting ------------------------------------------------------------------------------

    def submit(self, fn: Callable[[ActorHandle, Any], Any], value: Any) -> None:
        """Has a free actor do one call; when none is free, the next one that becomes so."""
        if not self._idle:
            self._waiting.append((fn, value))
            return
        actor = self._idle.pop()
        try:
            result = fn(actor, value)
        except BaseException:
            self._idle.append(actor)
            raise
        self._running[self._next_number] = _Call(actor, result)
        self._busy.add(self._next_number)
        self._next_number += 1

    def map(self, fn: Callable[[ActorHandle, Any], Any], values: Iterable[Any]) -> Iterator[Any]:
        """Applies `fn` to all values; the results come in the order of the values.

        Calls that were submitted before, and whose results nobody took, are forgotten. The calls
        begin at once; the iterator only waits for them.
        """
        self._forget()
        for value in values:
            self.submit(fn, value)
        return self._drain(self.get_next)

    def map_unordered(
        self, fn: Callable[[ActorHandle, Any], Any], values: Iterable[Any]
    ) -> Iterator[Any]:
        """Like `map`, but each result comes as soon as it is there."""
        self._forget()
        for value in values:
            self.submit(fn, value)
        return self._drain(self.get_next_unordered)

    def _drain(self, take: Callable[[], Any]) -> Iterator[Any]:
        while self.has_next():
            yield take()

    def _forget(self) -> None:
        while self._running:
            self._release(next(iter(self._running)))

    # ---- results ---------------------------------------------------------------------------------

    def has_next(self) -> bool:
        """Whether there are results that nobody took yet."""
        return bool(self._running)

    def get_next(self, timeout: float | None = None, ignore_if_timedout: bool = False) -> Any:
        """Waits for the next result, in the order of submission.

        Args:
            timeout: seconds to wait; by default as long as it takes.
            ignore_if_timedout: when the time is up, give the call up and its actor the next one.

        Raises:
            StopIteration: there are no results to wait for.
            TimeoutError: the time was up.
            ValueError: results after this one were taken by `get_next_unordered`.
        """
        if not self.has_next():
            raise StopIteration("No more results to get")
        number = self._next_return
        if number not in self._running:
            raise ValueError(
                "It is not allowed to call get_next() after get_next_unordered()."
            )
        return self._take([number], timeout, ignore_if_timedout)

    def get_next_unordered(
        self, timeout: float | None = None, ignore_if_timedout: bool = False
    ) -> Any:
        """Waits for whichever result comes first; arguments and errors as of `get_next`."""
        if not self.has_next():
            raise StopIteration("No more results to get")
        return self._take(list(self._running), timeout, ignore_if_timedout)

    def _take(self, numbers: list[int], timeout: float | None, give_up: bool) -> Any:
        number = self._wait(numbers, timeout)
        if number is not None:
            return ray.get(self._release(number).result)
        if not give_up:
            raise TimeoutError(_TIMED_OUT)
        call = self._release(numbers[0])
        raise TimeoutError(f"{_TIMED_OUT}. The task {call.result} has been ignored.")

    def _wait(self, numbers: list[int], timeout: float | None) -> int | None:
        """Waits for one of these calls; None when the time is up.

        Meanwhile actors whose calls end are given those that wait for an actor.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            for number in numbers:
                if number not in self._busy:
                    return number
            watched = list(self._busy) if self._waiting else numbers
            refs = {self._running[number].ref: number for number in watched}
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            ready, _ = ray.wait(list(refs), num_returns=1, timeout=left)
            if not ready:
                return None
            self._free_actor_of(refs[ready[0]])

    def _release(self, number: int) -> _Call:
        """Takes a call off the list; its actor goes on with the next one."""
        self._next_return = max(self._next_return, number + 1)
        call = self._running[number]
        try:
            self._free_actor_of(number)
        finally:
            del self._running[number]
        return call

    # ---- actors ----------------------------------------------------------------------------------

    def _free_actor_of(self, number: int) -> None:
        if number in self._busy:
            self._busy.discard(number)
            self._give(self._running[number].actor)

    def _give(self, actor: Any) -> None:
        self._idle.append(actor)
        if self._waiting:
            fn, value = self._waiting.popleft()
            self.submit(fn, value)

    def has_free(self) -> bool:
        """Whether an actor has nothing to do, and nothing waits for one."""
        return bool(self._idle) and not self._waiting

    def pop_idle(self) -> ActorHandle | None:
        """Takes an actor that has nothing to do out of the pool; None when all are busy."""
        if self.has_free():
            handle: ActorHandle = self._idle.pop()
            return handle
        return None

    def push(self, actor: ActorHandle) -> None:
        """Puts another actor into the pool. Raises ValueError when it is in it already."""
        if actor in self._idle or any(self._running[n].actor == actor for n in self._busy):
            raise ValueError("Actor already belongs to current ActorPool")
        self._give(actor)
