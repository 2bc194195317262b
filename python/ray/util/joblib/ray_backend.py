# SPDX-License-Identifier: Apache-2.0
"""The joblib backend: batches of joblib's calls run in a pool of actors.

Large arrays among the arguments are put into the object store once a ``Parallel`` call and read in
place by all processes, read-only, as with joblib's own process backend.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from joblib._parallel_backends import (
    AutoBatchingMixin,
    FallbackToBackend,
    ParallelBackendBase,
    SequentialBackend,
)

import ray
from ray.util.multiprocessing.pool import Pool
from ray.util.multiprocessing.results import AsyncResult

SHARED_ABOVE = 1_000_000  # bytes; joblib's own threshold for what it maps


class RayBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """What ``joblib.parallel_backend("ray", ray_remote_args=...)`` selects.

    ``n_jobs=-1`` means all CPUs of the cluster. `ray_remote_args` are options of the actors.
    """

    supports_timeout = True

    def __init__(
        self,
        nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
        ray_remote_args: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads, **kwargs
        )
        self.ray_remote_args = ray_remote_args
        self._pool: Pool | None = None
        self._shared: dict[int, tuple[Any, Any]] = {}  # array's id -> array, reference

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """How many processes `n_jobs` means; negative numbers count from the cluster's CPUs."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        if n_jobs > 0:
            return n_jobs
        if not ray.is_initialized():
            ray.init()
        cpus = int(ray.cluster_resources().get("CPU", 0))
        return max(cpus + 1 + n_jobs, 1)

    def configure(
        self,
        n_jobs: int = 1,
        parallel: Any = None,
        prefer: str | None = None,
        require: str | None = None,
        ray_remote_args: dict[str, Any] | None = None,
        **_joblib_args: Any,
    ) -> int:
        """Starts the processes; returns how many there are."""
        n_jobs = self.effective_n_jobs(n_jobs)
        if n_jobs == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        if ray_remote_args is not None:
            self.ray_remote_args = ray_remote_args
        self.parallel = parallel
        self._pool = Pool(n_jobs, ray_remote_args=self.ray_remote_args)
        return n_jobs

    def apply_async(
        self, func: Callable[[], Any], callback: Callable[[Any], Any] | None = None
    ) -> AsyncResult:
        """Has a process run one of joblib's batches."""
        assert self._pool is not None
        return self._pool.apply_async(_run, self._prepare(func), callback=callback)

    submit = apply_async  # its name in newer releases of joblib

    def _prepare(self, func: Any) -> tuple[Any, list[Any]]:
        """A batch without its large arrays, and where each belongs: (call, position, reference)."""
        calls = getattr(func, "items", None)
        if not isinstance(calls, list):
            return func, []
        large: list[Any] = []
        func.items = [
            self._take_arrays(number, call, large) if _is_call(call) else call
            for number, call in enumerate(calls)
        ]
        return func, large

    def _take_arrays(self, number: int, call: Any, large: list[Any]) -> Any:
        function, args, kwargs = call
        positions: list[tuple[Any, Any]] = [*enumerate(args), *kwargs.items()]
        taken = [(where, value) for where, value in positions if _is_large_array(value)]
        if not taken:
            return call
        args, kwargs = list(args), dict(kwargs)
        for where, value in taken:
            _place(args, kwargs, where, None)
            large.append((number, where, self._reference(value)))
        return function, tuple(args), kwargs

    def _reference(self, array: Any) -> Any:
        found = self._shared.get(id(array))
        if found is None:
            # Holding the array keeps its id from being another's.
            found = self._shared[id(array)] = (array, ray.put(array))
        return found[1]

    def terminate(self) -> None:
        """Ends the processes; called at the end of a ``Parallel`` call."""
        if self._pool is not None:
            self._pool.terminate()
            self._pool.join()
            self._pool = None
        self._shared.clear()
        self.reset_batch_stats()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Ends the processes after an error; with `ensure_ready` starts new ones."""
        self.terminate()
        if ensure_ready:
            self.configure(n_jobs=self.parallel.n_jobs, parallel=self.parallel)


def _is_call(call: Any) -> bool:
    return isinstance(call, tuple) and len(call) == 3


def _is_large_array(value: Any) -> bool:
    # Exactly an array: memory maps and subclasses have ways of their own to travel.
    cls = type(value)
    if cls.__name__ != "ndarray" or cls.__module__ != "numpy":
        return False
    return bool(value.nbytes > SHARED_ABOVE and not value.dtype.hasobject)


def _place(args: list[Any], kwargs: dict[str, Any], where: Any, value: Any) -> None:
    if isinstance(where, int):
        args[where] = value
    else:
        kwargs[where] = value


def _run(batch: Any, large: list[Any]) -> Any:
    """Runs a batch in a process of the pool, with its arrays back in place."""
    if large:
        arrays = ray.get([ref for _, _, ref in large])
        opened = [(function, list(args), dict(kwargs)) for function, args, kwargs in batch.items]
        for (number, where, _), array in zip(large, arrays):
            _place(opened[number][1], opened[number][2], where, array)
        batch.items = opened
    return batch()
