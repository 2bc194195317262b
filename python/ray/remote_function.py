# SPDX-License-Identifier: Apache-2.0
"""Remote functions: what ``@ray.remote`` makes of a function."""

from __future__ import annotations

from ray import _native
from ray._private import options as opt
from ray._private import signature as sig

TYPE_CHECKING = False  # see ray/__init__.py
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ray.dag.function_node import FunctionNode

_COPIED = ("__module__", "__name__", "__qualname__", "__doc__", "__annotations__")


class RemoteFunction(_native.RemoteFunctionBase):
    """A function that runs as a task on a worker process.

    ``f.remote(...)`` submits a task and returns at once. It is C, in the base class; it comes back
    here (`_export`) when the function has not been sent in this session yet.
    """

    _function: Callable[..., Any]
    _function_name: str
    _default_options: dict[str, Any]
    _hash: bytes | None

    def __init__(
        self,
        function: Callable[..., Any],
        options: dict[str, Any],
        *,
        parent: RemoteFunction | None = None,
    ) -> None:
        self._function = function
        self._default_options = options
        self._parent = parent  # options come from .options(); the definition is the parent's
        self._hash = None  # known once the definition is
        self._is_generator = sig.is_generator(function)
        self._function_name = getattr(function, "__qualname__", None) or type(function).__name__
        for name in _COPIED:
            try:
                setattr(self, name, getattr(function, name))
            except AttributeError:
                pass
        self.__wrapped__ = function
        self._set_signature(parent._signature if parent else sig.of_function(function))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(
            "Remote functions cannot be called directly. Instead of running "
            f"'{self._function_name}()', try '{self._function_name}.remote()'."
        )

    def options(self, **task_options: Any) -> RemoteFunction:
        """The same function with other options, which overlay those of the decorator."""
        opt.check_task(task_options, in_options=True)
        merged = opt.merge(self._default_options, task_options)
        return RemoteFunction(self._function, merged, parent=self._parent or self)

    def bind(self, *args: Any, **kwargs: Any) -> FunctionNode:
        """Makes a node of a task graph."""
        from ray.dag.function_node import FunctionNode

        return FunctionNode(self, args, kwargs, self._default_options)

    def _export(self) -> None:
        """Prepares options and definition for the current session; starts one if need be."""
        from ray._private import api, definitions

        plan = opt.plan_task(self._default_options, self._is_generator)
        session = api.ensure_session()
        source = self._parent or self
        prepared = definitions.prepare_task_options(plan)
        function = definitions.export_function(source, session)
        self._bind(function, prepared, definitions.returns_of(plan), session)

    def __reduce__(self) -> tuple[Any, ...]:
        # In two steps, so that a function that refers to itself finds its own half-made object.
        state = {
            "function": self._function,
            "options": self._default_options,
            "hash": (self._parent or self)._hash,
        }
        return _new_remote_function, (), state

    def __setstate__(self, state: dict[str, Any]) -> None:
        RemoteFunction.__init__(self, state["function"], state["options"])
        self._hash = state["hash"]
        if self._hash is None:
            from ray._private import definitions

            definitions.note_unnamed(self)

    def __repr__(self) -> str:
        return f"<ray.remote_function.RemoteFunction {self._function_name}>"


def _new_remote_function() -> RemoteFunction:
    return RemoteFunction.__new__(RemoteFunction)
