# SPDX-License-Identifier: Apache-2.0
"""What runs in a process of the pool."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from multiprocessing.pool import ExceptionWithTraceback  # type: ignore[attr-defined]
from typing import Any

from ray._private.errors import ExceptionParts, make_portable

# How the items of a batch become arguments.
EACH, STAR, CALL = 0, 1, 2  # f(item); f(*item); item is (args, kwargs)


class PoolActor:
    """One process of a pool: runs the initializer, then batches, one at a time."""

    def __init__(
        self, initializer: Callable[..., Any] | None = None, initargs: Sequence[Any] = ()
    ) -> None:
        self._module: str | None = None
        self._globals: dict[str, Any] = {}
        if initializer is not None:
            self._initialize(initializer, initargs)

    def _initialize(self, initializer: Callable[..., Any], initargs: Sequence[Any]) -> None:
        variables = getattr(initializer, "__globals__", None)
        before = dict(variables or {})
        initializer(*initargs)
        if variables is None:
            return
        # A function of the driver's own program comes as a copy with variables of its own. What
        # the initializer has set is therefore handed on to the functions of the same module.
        self._module = initializer.__module__
        self._globals = {
            name: value
            for name, value in variables.items()
            if name not in before or before[name] is not value
        }
        self._globals.pop("__builtins__", None)

    def _hand_on(self, function: Any) -> None:
        for _ in range(32):  # through partials, methods and callable objects
            variables = getattr(function, "__globals__", None)
            if variables is not None:
                if function.__module__ == self._module:
                    variables.update(self._globals)
                return
            inner = getattr(function, "func", None) or getattr(function, "__func__", None)
            if inner is None and not callable(function):
                return
            function = inner or type(function).__call__

    def ping(self) -> None:
        """Returns when the process is ready."""

    def run_batch(
        self, function: Callable[..., Any], how: int, batch: Sequence[Any]
    ) -> tuple[list[Any], dict[int, Any]]:
        """Calls the function for each item: the results, and by index what was raised instead."""
        if self._globals:
            self._hand_on(function)
        results: list[Any] = []
        errors: dict[int, Any] = {}
        for index, item in enumerate(batch):
            try:
                if how == EACH:
                    result = function(item)
                elif how == STAR:
                    result = function(*item)
                else:
                    result = function(*item[0], **item[1])
            except Exception as exc:
                errors[index] = _pack(exc)
                result = None
            results.append(result)
        return results, errors


def _pack(exc: Exception) -> Any:
    """An exception that comes out at the other end with its remote traceback as its cause."""
    # The first frame is that of run_batch.
    tb = exc.__traceback__.tb_next if exc.__traceback__ is not None else None
    text = "".join(traceback.format_exception(type(exc), exc, tb))
    portable, in_parts = make_portable(exc)
    packed = ExceptionWithTraceback(portable, None)
    packed.tb = f'\n"""\n{text}"""'
    if in_parts:
        packed.exc = ExceptionParts(exc)
    return packed
