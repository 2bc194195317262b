# SPDX-License-Identifier: Apache-2.0
"""What the methods of a pool give back: results to come, and iterators over them."""

from __future__ import annotations

import itertools
import queue
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from multiprocessing import TimeoutError
from typing import Any

from ray.util.multiprocessing.workers import Batch, Workers


class Callbacks:
    """The thread that runs a pool's callbacks; started with the first."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def call(self, function: Callable[[], None]) -> None:
        """Has the thread call a function, after those that came before."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=_run_callbacks, args=(self._queue,), daemon=True, name="ray-pool"
                )
                self._thread.start()
        self._queue.put(function)

    def __del__(self) -> None:
        self._queue.put(None)


def _run_callbacks(waiting: queue.SimpleQueue[Callable[[], None] | None]) -> None:
    while True:
        function = waiting.get()
        if function is None:
            return
        try:
            function()
        except Exception:
            sys.excepthook(*sys.exc_info())
        function = None  # while this waits, nothing of the last call is kept


class AsyncResult:
    """The result of ``apply_async``, ``map_async`` or ``starmap_async``."""

    def __init__(
        self,
        workers: Workers,
        callbacks: Callbacks,
        batch_size: int,
        length: int,
        callback: Callable[[Any], Any] | None,
        error_callback: Callable[[BaseException], Any] | None,
        single: bool = False,
    ) -> None:
        self._workers = workers
        self._callbacks = callbacks
        self._batch_size = batch_size
        self._callback = callback
        self._error_callback = error_callback
        self._single = single
        self._values: list[Any] = [None] * length
        self._error: tuple[int, BaseException] | None = None  # the first one, by position
        self._lock = threading.Lock()
        self._left = -(-length // batch_size) if length else 0
        self._ready = False
        if not self._left:
            self._complete()

    def on_batch(self, index: int, results: Sequence[Any], errors: dict[int, Any]) -> None:
        """Takes what a batch gave."""
        start = index * self._batch_size
        with self._lock:
            self._values[start : start + len(results)] = results
            if errors:
                first = min(errors)
                if self._error is None or start + first < self._error[0]:
                    self._error = (start + first, errors[first])
            self._left -= 1
            if self._left:
                return
        self._complete()

    def _complete(self) -> None:
        callback: Any = self._callback if self._error is None else self._error_callback
        if callback is None:
            self._set_ready()
            return
        value = self._value() if self._error is None else self._error[1]

        def run() -> None:
            try:
                callback(value)
            finally:
                self._set_ready()

        self._callbacks.call(run)

    def _set_ready(self) -> None:
        self._ready = True
        self._workers.notify()

    def _value(self) -> Any:
        return self._values[0] if self._single else self._values

    def ready(self) -> bool:
        """Whether all calls are done, and the callback has run."""
        return self._ready

    def successful(self) -> bool:
        """Whether no call raised. Raises ValueError when it isn't ready."""
        if not self._ready:
            raise ValueError(f"{self!r} not ready")
        return self._error is None

    def wait(self, timeout: float | None = None) -> None:
        """Waits until it is ready, or until so many seconds have passed."""
        self._workers.wait(self.ready, timeout)

    def get(self, timeout: float | None = None) -> Any:
        """Waits for the result and returns it, or raises what the first failed call raised.

        Raises:
            multiprocessing.TimeoutError: it isn't there after so many seconds.
        """
        self.wait(timeout)
        if not self._ready:
            raise TimeoutError
        if self._error is not None:
            raise self._error[1]
        return self._value()


class IMapIterator:
    """Results of ``imap``, in the order of the items; ``imap_unordered`` gives them as they come.

    Items are taken from the iterable as results are taken from this iterator, some batches ahead:
    the iterable may be endless. An item that raised raises here, and the next ones still come.

    Attributes:
        exhausted: whether the iterable has no more items.
    """

    _ordered = True

    def __init__(
        self,
        workers: Workers,
        function: Any,
        how: int,
        iterable: Iterable[Any],
        batch_size: int,
    ) -> None:
        self._workers = workers
        self._function = function
        self._how = how
        self._items = iter(iterable)
        self._batch_size = batch_size
        self.exhausted = False
        self._submitted = 0  # batches
        self._taken = 0
        self._arrived: dict[int, list[tuple[bool, Any]]] = {}
        self._current: deque[tuple[bool, Any]] = deque()  # of the batch that was taken last
        self._lock = threading.RLock()  # of those that take
        self._submit_ahead()

    def _submit_ahead(self) -> None:
        while not self.exhausted and self._submitted - self._taken < 2 * self._workers.count:
            self.submit_next()

    def submit_next(self) -> bool:
        """Submits a further batch; False when all items were."""
        with self._lock:
            if self.exhausted:
                return False
            batch: list[Any] = []
            error: Exception | None = None
            try:
                for item in itertools.islice(self._items, self._batch_size):
                    batch.append(item)  # those before one that raises are run all the same
            except Exception as exc:  # of the iterable: it takes the place of the next item
                error = exc
            self.exhausted = error is not None or len(batch) < self._batch_size
            if batch:
                made = Batch(self, self._submitted, self._function, self._how, batch)
                self._workers.submit([made])
                self._submitted += 1
            if error is not None:
                self._submitted += 1
                self.on_batch(self._submitted - 1, [None], {0: error})
            return not self.exhausted

    def on_batch(self, index: int, results: Sequence[Any], errors: dict[int, Any]) -> None:
        """Takes what a batch gave."""
        outcomes = [(i not in errors, errors.get(i, value)) for i, value in enumerate(results)]
        self._arrived[index] = outcomes
        self._workers.notify()

    def _next_batch(self) -> int | None:
        """The batch to go on with, when it has arrived."""
        if self._ordered:
            return self._taken if self._taken in self._arrived else None
        return next(iter(self._arrived), None)

    def next(self, timeout: float | None = None) -> Any:
        """The next result.

        Raises:
            StopIteration: there are no more.
            multiprocessing.TimeoutError: it isn't there after so many seconds.
        """
        with self._lock:
            while not self._current:
                if self._taken == self._submitted and not self.submit_next():
                    if self._taken == self._submitted:
                        raise StopIteration
                if not self._workers.wait(lambda: self._next_batch() is not None, timeout):
                    raise TimeoutError
                number = self._next_batch()
                assert number is not None
                self._current.extend(self._arrived.pop(number))
                self._taken += 1
                self._submit_ahead()
            successful, value = self._current.popleft()
        if successful:
            return value
        raise value

    __next__ = next

    def __iter__(self) -> IMapIterator:
        return self


class IMapUnorderedIterator(IMapIterator):
    """Results of ``imap_unordered``, as they come."""

    _ordered = False
