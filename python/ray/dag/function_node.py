# SPDX-License-Identifier: Apache-2.0
"""The node of a remote function."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ray.dag.dag_node import DAGNode

if TYPE_CHECKING:
    from collections.abc import Callable

    from ray.remote_function import RemoteFunction


class FunctionNode(DAGNode):
    """A task to be: ``f.bind(...)``. Executing it gives what ``f.remote(...)`` gives."""

    def __init__(
        self,
        func_body: RemoteFunction | Callable[..., Any],
        func_args: tuple[Any, ...],
        func_kwargs: dict[str, Any],
        func_options: dict[str, Any],
        other_args_to_resolve: dict[str, Any] | None = None,
    ) -> None:
        from ray.remote_function import RemoteFunction

        if not isinstance(func_body, RemoteFunction):
            func_body = RemoteFunction(func_body, func_options)
        self._body = func_body
        super().__init__(func_args, func_kwargs, func_options, other_args_to_resolve)

    def _copy_impl(
        self,
        new_args: tuple[Any, ...],
        new_kwargs: dict[str, Any],
        new_options: dict[str, Any],
        new_other_args_to_resolve: dict[str, Any],
    ) -> FunctionNode:
        return FunctionNode(
            self._body, new_args, new_kwargs, new_options, new_other_args_to_resolve
        )

    def _execute_impl(self, *args: Any, **kwargs: Any) -> Any:
        return self._body.remote(*self._bound_args, **self._bound_kwargs)

    def get_func_name(self) -> str:
        """The qualified name of the function."""
        return self._body._function_name

    def _describe(self) -> str:
        return self._body._function_name
