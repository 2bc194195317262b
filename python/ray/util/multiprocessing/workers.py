# SPDX-License-Identifier: Apache-2.0
"""The processes of a pool and the batches that they run, one at a time each.

A batch waits in one queue for whichever process is free next, as in ``multiprocessing``. When one
is done, whoever notices first takes its result and gives the process the next batch: a thread that
waits for results, or Ray's thread for callbacks when none does.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import ray
from ray import _native, exceptions
from ray._private.futures import when_ready
from ray.util.multiprocessing.actor import PoolActor

_PRUNE_ABOVE = 64


class Job(Protocol):
    """What batches belong to."""

    def on_batch(self, index: int, results: Sequence[Any], errors: dict[int, Any]) -> None:
        """Takes what a batch gave; `errors` is by position in the batch."""


class Batch:
    """Some calls of one function, which one process runs one after the other."""

    __slots__ = ("function", "how", "index", "items", "job")

    def __init__(
        self, job: Job, index: int, function: Any, how: int, items: Sequence[Any]
    ) -> None:
        self.job = job
        self.index = index
        self.function = function  # or a reference to it
        self.how = how
        self.items = items

    def fail(self, error: BaseException) -> None:
        """Ends it with one error for all calls."""
        errors = dict.fromkeys(range(len(self.items)), error)
        self.job.on_batch(self.index, [None] * len(self.items), errors)


class _Process:
    __slots__ = ("actor", "batches")

    def __init__(self, actor: Any) -> None:
        self.actor = actor
        self.batches = 0


class Workers:
    """A number of processes, and the queue of what they have to do.

    One lock guards everything; nothing that may take long is done under it. `moving` counts the
    batches that some thread has in hand, between queue and process or between process and job.
    """

    def __init__(
        self,
        processes: int,
        initializer: Callable[..., Any] | None,
        initargs: Sequence[Any],
        batches_per_process: int | None,
        actor_options: dict[str, Any],
    ) -> None:
        self.count = processes
        self._start = (initializer, tuple(initargs))
        self._limit = batches_per_process
        self._session = _native.session()
        self._actor_class = ray.remote(num_cpus=0)(PoolActor).options(**actor_options)
        self._changed = threading.Condition(threading.RLock())
        self._queue: deque[Batch] = deque()
        self._running: dict[Any, tuple[_Process, Batch]] = {}  # by reference of the result
        self._moving = 0
        self._ended = False
        self._killed = False
        self._ending: list[Any] = []  # references that are ready when an actor is gone
        self._idle = [self._new_process() for _ in range(processes)]
        try:
            ray.get([process.actor.ping.remote() for process in self._idle])
        except BaseException:
            self.kill()
            raise

    def _new_process(self) -> _Process:
        return _Process(self._actor_class.remote(*self._start))

    def _is_connected(self) -> bool:
        """Whether the session in which the processes were started still lasts."""
        return _native.session() == self._session and _native.is_initialized()

    # ---- batches ---------------------------------------------------------------------------------

    def submit(self, batches: Sequence[Batch]) -> None:
        """Queues batches. Raises ValueError when the processes were ended."""
        with self._changed:
            if self._ended or not self._is_connected():
                raise ValueError("Pool not running")
            self._queue.extend(batches)
        self._dispatch()

    def _dispatch(self) -> None:
        """Gives queued batches to idle processes."""
        while True:
            with self._changed:
                if not self._idle or not self._queue:
                    return
                process, batch = self._idle.pop(), self._queue.popleft()
                self._moving += 1
            try:
                method = process.actor.run_batch
                ref = method.remote(batch.function, batch.how, batch.items)
            except Exception as exc:  # it can't be sent
                self._keep(process)
                batch.fail(exc)
                self._moved()
                continue
            except BaseException:  # an interrupt
                self._keep(process)
                with self._changed:
                    self._queue.appendleft(batch)
                self._moved()
                raise
            process.batches += 1
            with self._changed:
                self._running[ref] = (process, batch)
                is_late = self._killed
            if is_late:
                ray.kill(process.actor)
            self._moved()
            when_ready(ref, partial(self._finish, ref))

    def _moved(self) -> None:
        with self._changed:
            self._moving -= 1
            self._changed.notify_all()

    def _finish(self, ref: Any, cancelled: bool = False) -> None:
        """Takes the result of a batch that is done, unless somebody else did."""
        with self._changed:
            process, batch = self._running.pop(ref, (None, None))
            if process is None or batch is None:
                return
            self._moving += 1
        try:
            outcome: Any = _result(ref, cancelled)
        except BaseException:  # an interrupt; the result is still to be taken
            with self._changed:
                self._running[ref] = (process, batch)
            self._moved()
            raise
        try:
            if cancelled:
                self.kill()
            else:
                self._reuse(process, outcome)
                self._dispatch()
        finally:
            if isinstance(outcome, BaseException):
                batch.fail(outcome)
            else:
                batch.job.on_batch(batch.index, *outcome)
            self._moved()

    def _reuse(self, process: _Process, outcome: Any) -> None:
        """Makes a process idle again, or puts a new one in its place."""
        if self._killed:
            return
        if isinstance(outcome, exceptions.RayActorError):
            process = self._new_process()
        elif self._limit is not None and process.batches >= self._limit:
            self._end_process(process)
            process = self._new_process()
        self._keep(process)

    def _keep(self, process: _Process) -> None:
        """Makes a process idle, unless all were killed meanwhile."""
        with self._changed:
            if not self._killed:
                self._idle.append(process)
                return
        ray.kill(process.actor)

    def wait(self, is_done: Callable[[], bool], timeout: float | None = None) -> bool:
        """Waits until a condition holds that depends on batches; False when the time is up."""
        deadline = None if timeout is None else time.monotonic() + timeout

        def left() -> float | None:
            return None if deadline is None else max(0.0, deadline - time.monotonic())

        while True:
            with self._changed:
                while not is_done() and not (refs := self._watchable()):
                    if not self._changed.wait(left()) and left() == 0.0:
                        return is_done()
                if is_done():
                    return True
            try:  # through Ray, which gives back the CPU of a task that waits
                ready, _ = ray.wait(refs, num_returns=1, timeout=left())
            except Exception:
                if self._is_connected():
                    raise
                continue
            if not ready:
                return is_done()
            self._finish(ready[0])

    def _watchable(self) -> list[Any]:
        """What to wait for; nothing when another thread is about to change something.

        At the end of the session that is the callback thread: it fails each batch that is running.
        """
        if self._moving or not self._is_connected():
            return []
        return list(self._running)

    def notify(self) -> None:
        """Has waiting threads look at their conditions again."""
        with self._changed:
            self._changed.notify_all()

    def is_busy(self) -> bool:
        """Whether there are batches that are not done."""
        with self._changed:
            return bool(self._queue or self._running or self._moving)

    # ---- the end ---------------------------------------------------------------------------------

    def _end_process(self, process: _Process) -> None:
        process.actor.__ray_terminate__.remote()
        ref = process.actor.ping.remote()  # fails once the actor is gone
        with self._changed:
            self._ending.append(ref)
            if len(self._ending) > _PRUNE_ABOVE:
                count = len(self._ending)
                _, self._ending = ray.wait(self._ending, num_returns=count, timeout=0)

    def end(self) -> None:
        """Ends all processes in good order. There must be no batches left."""
        with self._changed:
            idle, self._idle = self._idle, []
            self._ended = True
        for process in idle if self._is_connected() else ():
            self._end_process(process)

    def kill(self) -> None:
        """Ends all processes at once; batches that are not done fail."""
        with self._changed:
            queued, self._queue = list(self._queue), deque()
            processes = self._idle + [process for process, _ in self._running.values()]
            self._idle = []
            self._ended = self._killed = True
        for process in processes if self._is_connected() else ():
            ray.kill(process.actor)
            self._ending.append(process.actor.ping.remote())  # fails once the actor is gone
        for batch in queued:
            batch.fail(
                exceptions.ActorDiedError(
                    {"error_message": "The pool was terminated before the call was run."}
                )
            )
        self.notify()

    def wait_for_end(self) -> None:
        """Waits until the actors are gone."""
        while self._ending and self._is_connected():
            _, self._ending = ray.wait(self._ending, num_returns=len(self._ending))


def _result(ref: Any, cancelled: bool) -> Any:
    """What a batch returned, or what it failed with."""
    if cancelled:
        return RuntimeError("Ray was shut down before the call was done.")
    try:
        return ray.get(ref)
    except Exception as exc:
        return exc
