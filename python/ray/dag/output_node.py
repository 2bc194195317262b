# SPDX-License-Identifier: Apache-2.0
"""Several outputs of one graph."""

from __future__ import annotations

from typing import Any

from ray.dag.dag_node import DAGNode


class MultiOutputNode(DAGNode):
    """The end of a graph with several outputs: executing it gives a list of references."""

    def __init__(
        self,
        args: list[Any] | tuple[Any, ...],
        other_args_to_resolve: dict[str, Any] | None = None,
    ) -> None:
        if not isinstance(args, (list, tuple)):
            raise ValueError(f"Invalid input type for `args`, {type(args)}.")
        super().__init__(tuple(args), {}, {}, other_args_to_resolve)

    def _copy_impl(
        self,
        new_args: tuple[Any, ...],
        new_kwargs: dict[str, Any],
        new_options: dict[str, Any],
        new_other_args_to_resolve: dict[str, Any],
    ) -> MultiOutputNode:
        return MultiOutputNode(new_args, new_other_args_to_resolve)

    def _execute_impl(self, *args: Any, **kwargs: Any) -> list[Any]:
        return list(self._bound_args)
