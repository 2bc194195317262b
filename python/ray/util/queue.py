# SPDX-License-Identifier: Apache-2.0
"""A queue that many tasks, actors and drivers share: an actor with an ``asyncio.Queue``."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Iterable
from typing import Any

import ray


class Empty(queue.Empty):
    """There was nothing in the queue."""


class Full(queue.Full):
    """The queue had no room."""


class Queue:
    """A first-in, first-out queue; its items may be anything that can be sent.

    It can be passed to tasks and actors. The actor behind it ends when nobody has the queue any
    more, unless `shutdown` ended it before.

    Args:
        maxsize: how many items it holds at most; 0 for any number.
        actor_options: options of the actor, as of ``@ray.remote``.

    Attributes:
        maxsize: as given.
        actor: the handle of the actor; None after `shutdown`.
    """

    def __init__(self, maxsize: int = 0, actor_options: dict[str, Any] | None = None) -> None:
        self.maxsize = maxsize
        self.actor = ray.remote(_QueueActor).options(**(actor_options or {})).remote(maxsize)

    # ---- looking ---------------------------------------------------------------------------------

    def __len__(self) -> int:
        return self.size()

    def size(self) -> int:
        """How many items there are."""
        return int(ray.get(self.actor.qsize.remote()))

    def qsize(self) -> int:
        """How many items there are."""
        return self.size()

    def empty(self) -> bool:
        """Whether there are no items."""
        return bool(ray.get(self.actor.empty.remote()))

    def full(self) -> bool:
        """Whether there is no room."""
        return bool(ray.get(self.actor.full.remote()))

    # ---- putting ---------------------------------------------------------------------------------

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Adds an item.

        Args:
            item: the item.
            block: wait for room.
            timeout: seconds to wait for room; by default as long as it takes.

        Raises:
            Full: there is no room, or was none for `timeout` seconds.
            ValueError: `timeout` is negative.
        """
        ray.get(self._put(item, block, timeout))

    async def put_async(
        self, item: Any, block: bool = True, timeout: float | None = None
    ) -> None:
        """`put` for asyncio."""
        await self._put(item, block, timeout)

    def _put(self, item: Any, block: bool, timeout: float | None) -> Any:
        if not block:
            return self.actor.put_nowait.remote(item)
        return self.actor.put.remote(item, _checked(timeout))

    def put_nowait(self, item: Any) -> None:
        """``put(item, block=False)``"""
        self.put(item, block=False)

    def put_nowait_batch(self, items: Iterable[Any]) -> None:
        """Adds all of the items, or none and raises Full.

        Raises TypeError when `items` can't be iterated over.
        """
        if not isinstance(items, Iterable):
            raise TypeError("Argument 'items' must be an Iterable")
        ray.get(self.actor.put_nowait_batch.remote(list(items)))

    # ---- getting ---------------------------------------------------------------------------------

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Takes the next item.

        Args:
            block: wait for an item.
            timeout: seconds to wait for an item; by default as long as it takes.

        Raises:
            Empty: there is no item, or was none for `timeout` seconds.
            ValueError: `timeout` is negative.
        """
        return ray.get(self._get(block, timeout))

    async def get_async(self, block: bool = True, timeout: float | None = None) -> Any:
        """`get` for asyncio."""
        return await self._get(block, timeout)

    def _get(self, block: bool, timeout: float | None) -> Any:
        if not block:
            return self.actor.get_nowait.remote()
        return self.actor.get.remote(_checked(timeout))

    def get_nowait(self) -> Any:
        """``get(block=False)``"""
        return self.get(block=False)

    def get_nowait_batch(self, num_items: int) -> list[Any]:
        """Takes so many items, or none and raises Empty when there are fewer.

        Raises TypeError when `num_items` is no integer, ValueError when it is negative.
        """
        if not isinstance(num_items, int):
            raise TypeError("Argument 'num_items' must be an int")
        if num_items < 0:
            raise ValueError("'num_items' must be nonnegative")
        return list(ray.get(self.actor.get_nowait_batch.remote(num_items)))

    # ---- the end ---------------------------------------------------------------------------------

    def shutdown(self, force: bool = False, grace_period_s: int = 5) -> None:
        """Ends the actor; the items are lost.

        Args:
            force: end it at once, and fail what waits for it.
            grace_period_s: otherwise, seconds to wait for what it was asked to do before.
        """
        if self.actor is not None:
            if not force:
                done = self.actor.__ray_terminate__.remote()
                force = not ray.wait([done], timeout=grace_period_s)[0]
            if force:
                ray.kill(self.actor, no_restart=True)
        self.actor = None


def _checked(timeout: float | None) -> float | None:
    if timeout is not None and timeout < 0:
        raise ValueError("'timeout' must be a non-negative number")
    return timeout


class _QueueActor:
    """The queue itself. Its methods run on one event loop, so each step is alone."""

    def __init__(self, maxsize: int) -> None:
        self.maxsize = maxsize
        self.queue: asyncio.Queue[Any] = asyncio.Queue(maxsize)

    def qsize(self) -> int:
        return self.queue.qsize()

    def empty(self) -> bool:
        return self.queue.empty()

    def full(self) -> bool:
        return self.queue.full()

    async def put(self, item: Any, timeout: float | None = None) -> None:
        if timeout is None:
            await self.queue.put(item)
        elif self.queue.full():
            try:
                await asyncio.wait_for(self.queue.put(item), timeout)
            except asyncio.TimeoutError:
                raise Full from None
        else:
            self.queue.put_nowait(item)

    async def get(self, timeout: float | None = None) -> Any:
        if timeout is None:
            return await self.queue.get()
        if not self.queue.empty():
            return self.queue.get_nowait()
        try:
            return await asyncio.wait_for(self.queue.get(), timeout)
        except asyncio.TimeoutError:
            raise Empty from None

    async def put_nowait(self, item: Any) -> None:
        if self.queue.full():
            raise Full
        self.queue.put_nowait(item)

    async def put_nowait_batch(self, items: list[Any]) -> None:
        if self.maxsize > 0 and len(items) + self.queue.qsize() > self.maxsize:
            raise Full(
                f"Cannot add {len(items)} items to queue of size {self.queue.qsize()} and maxsize "
                f"{self.maxsize}."
            )
        for item in items:
            self.queue.put_nowait(item)

    async def get_nowait(self) -> Any:
        if self.queue.empty():
            raise Empty
        return self.queue.get_nowait()

    async def get_nowait_batch(self, num_items: int) -> list[Any]:
        if num_items > self.queue.qsize():
            raise Empty(
                f"Cannot get {num_items} items from queue of size {self.queue.qsize()}."
            )
        return [self.queue.get_nowait() for _ in range(num_items)]
