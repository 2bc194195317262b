# SPDX-License-Identifier: Apache-2.0
"""Iterating over results as tasks end."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import ray

if TYPE_CHECKING:
    from ray import ObjectRef
    from ray.remote_function import RemoteFunction


def _check(chunk_size: int, wait_options: dict[str, Any]) -> None:
    if chunk_size < 1:
        raise ValueError("`chunk_size` must be >= 1")
    if "num_returns" in wait_options:
        raise ValueError("Use the `chunk_size` argument instead of `num_returns`.")


def _yield(done: list[ObjectRef[Any]], yield_obj_refs: bool) -> Iterator[Any]:
    for ref in done:
        yield ref if yield_obj_refs else ray.get(ref)


def as_completed(
    refs: Sequence[ObjectRef[Any]],
    *,
    chunk_size: int = 10,
    yield_obj_refs: bool = False,
    **wait_options: Any,
) -> Iterator[Any]:
    """The values of references, in the order in which they are there.

    Args:
        refs: the references.
        chunk_size: how many to wait for at a time: more are quicker as a whole, fewer come sooner.
        yield_obj_refs: give the references instead of their values.
        **wait_options: go to ``ray.wait``.
    """
    _check(chunk_size, wait_options)

    def results() -> Iterator[Any]:
        left = list(refs)
        while left:
            count = min(chunk_size, len(left))
            done, left = ray.wait(left, num_returns=count, **wait_options)
            yield from _yield(done, yield_obj_refs)

    return results()


def map_unordered(
    fn: RemoteFunction,
    items: Iterable[Any],
    *,
    backpressure_size: int | None = 100,
    chunk_size: int = 10,
    yield_obj_refs: bool = False,
    **wait_options: Any,
) -> Iterator[Any]:
    """Applies a remote function to each item; results come in the order in which they are there.

    Args:
        fn: the remote function.
        items: its arguments; they may be endless.
        backpressure_size: how many tasks there may be at a time; None for any number.
        chunk_size, yield_obj_refs, wait_options: as of `as_completed`.
    """
    _check(chunk_size, wait_options)
    if backpressure_size is not None and backpressure_size < 1:
        raise ValueError("`backpressure_size` must be >= 1")

    def results() -> Iterator[Any]:
        source = iter(items)
        left: list[ObjectRef[Any]] = []
        while True:
            room = None if backpressure_size is None else backpressure_size - len(left)
            left += [fn.remote(item) for item in itertools.islice(source, room)]
            if not left:
                return
            count = min(chunk_size, len(left))
            done, left = ray.wait(left, num_returns=count, **wait_options)
            yield from _yield(done, yield_obj_refs)

    return results()
