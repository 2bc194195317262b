# SPDX-License-Identifier: Apache-2.0
"""The pool: the methods of ``multiprocessing.Pool`` over actors."""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn

import ray
from ray.util.debug import log_once
from ray.util.multiprocessing.actor import CALL, EACH, STAR
from ray.util.multiprocessing.results import (
    AsyncResult,
    Callbacks,
    IMapIterator,
    IMapUnorderedIterator,
)
from ray.util.multiprocessing.workers import Batch, Workers

__all__ = ["AsyncResult", "IMapIterator", "IMapUnorderedIterator", "Pool"]

logger = logging.getLogger(__name__)

_RUN, _CLOSE, _TERMINATE = "RUN", "CLOSE", "TERMINATE"


def _connect(processes: int | None, ray_address: str | None) -> int:
    """Starts or joins Ray when nobody has; returns how many processes the pool shall have."""
    if processes is not None and processes <= 0:
        raise ValueError("Processes in the pool must be >0.")
    if not ray.is_initialized():
        address = ray_address or os.environ.get("RAY_ADDRESS")
        if address and address != "local":
            ray.init(address=address)
        else:  # one that is started here has a CPU for each of them
            ray.init(address=address or None, num_cpus=processes)
    cpus = int(ray.cluster_resources().get("CPU", 0))
    if processes is None:
        processes = cpus
    if processes <= 0:
        raise ValueError("Processes in the pool must be >0.")
    if cpus < processes:
        raise ValueError(
            f"Tried to start a pool with {processes} processes on an existing ray cluster, but "
            f"there are only {cpus} CPUs in the ray cluster."
        )
    return processes


class Pool:
    """A number of processes that apply functions to arguments; each is an actor.

    The methods are those of ``multiprocessing.Pool`` and behave like them. Differences: functions
    may be anything that cloudpickle can send, a lambda too; `imap` takes items from endless
    iterables; a call whose process dies raises RayActorError, and the process is replaced; an
    initializer that raises makes this constructor raise.

    Args:
        processes: how many; by default the CPUs of the cluster.
        initializer: called with `initargs` in each process before anything else.
        maxtasksperchild: replace a process after so many calls (batches of a map).
        context: ignored; for programs that pass one.
        ray_address: a cluster to join when Ray isn't running yet.
        ray_remote_args: options of the actors, as of ``@ray.remote``. They take no CPU by default.
    """

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., Any] | None = None,
        initargs: Sequence[Any] | None = None,
        maxtasksperchild: int | None = None,
        context: Any = None,
        ray_address: str | None = None,
        ray_remote_args: dict[str, Any] | None = None,
    ) -> None:
        if maxtasksperchild is not None:
            if not isinstance(maxtasksperchild, int) or maxtasksperchild <= 0:
                raise ValueError("maxtasksperchild must be a positive int or None")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        if context is not None and log_once("context_argument_warning"):
            logger.warning(
                "The 'context' argument is not supported using ray. Please refer to the "
                "documentation for how to control ray initialization."
            )
        self._processes = _connect(processes, ray_address)
        self._workers = Workers(
            self._processes,
            initializer,
            initargs or (),
            maxtasksperchild,
            ray_remote_args or {},
        )
        self._callbacks = Callbacks()
        self._iterators: weakref.WeakSet[IMapIterator] = weakref.WeakSet()
        self._state = _RUN

    # ---- one call --------------------------------------------------------------------------------

    def apply(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *,
        kwds: Mapping[str, Any] | None = None,
    ) -> Any:
        """Calls ``func(*args, **kwargs)`` in one of the processes and waits for the result."""
        return self.apply_async(func, args, kwargs, kwds=kwds).get()

    def apply_async(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        callback: Callable[[Any], Any] | None = None,
        error_callback: Callable[[BaseException], Any] | None = None,
        *,
        kwds: Mapping[str, Any] | None = None,
    ) -> AsyncResult:
        """Like `apply`, but returns an AsyncResult at once.

        Args:
            callback: called with the result; it should be quick, as other callbacks wait for it.
            error_callback: called with the exception instead, when there is one.
            kwds: the name that ``multiprocessing`` has for `kwargs`.
        """
        self._check_running()
        item = (tuple(args or ()), dict(kwargs or kwds or {}))
        result = AsyncResult(
            self._workers, self._callbacks, 1, 1, callback, error_callback, single=True
        )
        self._workers.submit([Batch(result, 0, func, CALL, [item])])
        return result

    # ---- many calls ------------------------------------------------------------------------------

    def map(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = None
    ) -> list[Any]:
        """``[func(x) for x in iterable]``, by the processes.

        All items are run. When calls raised, the exception of the first of them is raised then.
        """
        return self._map(func, EACH, iterable, chunksize).get()  # type: ignore[no-any-return]

    def map_async(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callable[[list[Any]], Any] | None = None,
        error_callback: Callable[[BaseException], Any] | None = None,
    ) -> AsyncResult:
        """Like `map`, but returns an AsyncResult at once; for callbacks see `apply_async`."""
        return self._map(func, EACH, iterable, chunksize, callback, error_callback)

    def starmap(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
    ) -> list[Any]:
        """``[func(*x) for x in iterable]``; otherwise like `map`."""
        return self._map(func, STAR, iterable, chunksize).get()  # type: ignore[no-any-return]

    def starmap_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[list[Any]], Any] | None = None,
        error_callback: Callable[[BaseException], Any] | None = None,
    ) -> AsyncResult:
        """Like `starmap`, but returns an AsyncResult at once."""
        return self._map(func, STAR, iterable, chunksize, callback, error_callback)

    def _map(
        self,
        func: Callable[..., Any],
        how: int,
        iterable: Iterable[Any],
        chunksize: int | None,
        callback: Callable[[list[Any]], Any] | None = None,
        error_callback: Callable[[BaseException], Any] | None = None,
    ) -> AsyncResult:
        self._check_running()
        items = iterable if isinstance(iterable, (list, tuple)) else list(iterable)
        if chunksize is None:
            chunksize = max(1, -(-len(items) // (4 * self._processes)))
        _check_chunksize(chunksize)
        result = AsyncResult(
            self._workers, self._callbacks, chunksize, len(items), callback, error_callback
        )
        starts = range(0, len(items), chunksize)
        shared = _share(func) if len(starts) > 1 else func
        self._workers.submit(
            [
                Batch(result, index, shared, how, items[start : start + chunksize])
                for index, start in enumerate(starts)
            ]
        )
        return result

    def imap(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = 1
    ) -> IMapIterator:
        """An iterator over the results of `func` for the items, in their order."""
        return self._imap(IMapIterator, func, iterable, chunksize)

    def imap_unordered(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = 1
    ) -> IMapIterator:
        """Like `imap`, but results come as they are there."""
        return self._imap(IMapUnorderedIterator, func, iterable, chunksize)

    def _imap(
        self,
        kind: type[IMapIterator],
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None,
    ) -> IMapIterator:
        self._check_running()
        chunksize = 1 if chunksize is None else chunksize
        _check_chunksize(chunksize)
        iterator = kind(self._workers, _share(func), EACH, iterable, chunksize)
        self._iterators.add(iterator)
        return iterator

    # ---- the end ---------------------------------------------------------------------------------

    def _check_running(self) -> None:
        if self._state != _RUN:
            raise ValueError("Pool not running")

    def close(self) -> None:
        """Takes no more calls. Those that were made are done; `join` waits for that."""
        if self._state == _RUN:
            self._state = _CLOSE
            if not self._workers.is_busy() and all(i.exhausted for i in list(self._iterators)):
                self._workers.end()

    def terminate(self) -> None:
        """Ends the processes at once. Calls that are not done fail."""
        if self._state != _TERMINATE:
            self._state = _TERMINATE
            self._workers.kill()

    def join(self) -> None:
        """Waits until all calls are done and the actors are gone.

        Raises ValueError unless the pool was closed or terminated.
        """
        if self._state == _RUN:
            raise ValueError("Pool is still running")
        if self._state == _CLOSE:
            for iterator in list(self._iterators):
                while iterator.submit_next():
                    pass
            self._workers.wait(lambda: not self._workers.is_busy())
            self._workers.end()
        self._workers.wait_for_end()

    def __enter__(self) -> Pool:
        self._check_running()
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self.terminate()

    def __reduce__(self) -> NoReturn:
        raise NotImplementedError(
            "pool objects cannot be passed between processes or pickled"
        )

    def __repr__(self) -> str:
        cls = type(self)
        return (
            f"<{cls.__module__}.{cls.__qualname__} state={self._state} "
            f"pool_size={self._processes}>"
        )


def _check_chunksize(chunksize: int) -> None:
    if chunksize < 1:
        raise ValueError(f"Chunksize must be 1+, not {chunksize}")


def _share(func: Callable[..., Any]) -> Any:
    """A reference to the function, which is pickled only once then."""
    try:
        return ray.put(func)
    except Exception:
        return func  # each call will fail with what is wrong with it
