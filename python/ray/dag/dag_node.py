# SPDX-License-Identifier: Apache-2.0
"""What all nodes of a task graph have in common: arguments, traversal, execution."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any, NoReturn

from ray._private.unbuilt import not_built
from ray.dag.scan import Scan


class DAGNode:
    """A step of a task graph, with its arguments bound. Subclasses say what executing it means.

    A node never changes. Traversals make copies whose arguments have values in place of nodes; a
    copy has the uuid of its original.
    """

    def __init__(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: dict[str, Any],
        other_args_to_resolve: dict[str, Any] | None = None,
    ) -> None:
        self._bound_args = tuple(args or ())
        self._bound_kwargs = dict(kwargs or {})
        self._bound_options = dict(options or {})
        self._bound_other_args_to_resolve = dict(other_args_to_resolve or {})
        self._stable_uuid = uuid.uuid4().hex
        self.cache_from_last_execute: dict[str, Any] = {}

    # ---- what it holds ---------------------------------------------------------------------------

    def get_args(self) -> tuple[Any, ...]:
        """The bound positional arguments."""
        return self._bound_args

    def get_kwargs(self) -> dict[str, Any]:
        """The bound keyword arguments."""
        return dict(self._bound_kwargs)

    def get_options(self) -> dict[str, Any]:
        """The options of the task, the actor or the call."""
        return dict(self._bound_options)

    def get_other_args_to_resolve(self) -> dict[str, Any]:
        """What else may hold nodes: the parent of a method, the call before it."""
        return dict(self._bound_other_args_to_resolve)

    def get_stable_uuid(self) -> str:
        """An id that this node shares with its copies, and with nothing else."""
        return self._stable_uuid

    # ---- execution -------------------------------------------------------------------------------

    def execute(self, *args: Any, _ray_cache_refs: bool = False, **kwargs: Any) -> Any:
        """Submits this node and all that it depends on, each once; returns at once.

        Args:
            *args: go to the graph's InputNode, as do keyword arguments.
            _ray_cache_refs: keep what each node gave, for `get_object_refs_from_last_execute`.

        Returns:
            What submitting this node gives: a reference for a function or method, a handle for a
            class, a list of references for a MultiOutputNode.
        """
        results = self._apply_in_order(lambda node: node._execute_impl(*args, **kwargs))
        if _ray_cache_refs:
            self.cache_from_last_execute = dict(results)
        return results[self._stable_uuid]

    async def get_object_refs_from_last_execute(self) -> dict[str, Any]:
        """What each node gave, by its uuid, when `execute(_ray_cache_refs=True)` last ran."""
        return dict(self.cache_from_last_execute)

    def clear_cache(self) -> None:
        """Forgets what the last execution left."""
        self.cache_from_last_execute = {}

    def experimental_compile(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Compiles the graph."""
        raise not_built("Compiling task graphs (experimental_compile)", "Use .execute().")

    def _execute_impl(self, *args: Any, **kwargs: Any) -> Any:
        """Submits this node alone. Called on a copy whose arguments hold no nodes any more."""
        raise NotImplementedError

    # ---- traversal -------------------------------------------------------------------------------

    def apply_recursive(self, fn: Callable[[DAGNode], Any]) -> Any:
        """Applies a function to this node and all below it, each once, children first.

        The function gets a copy of each node in which the children are what it returned for them.
        Returns what it returned for this node. Raises AssertionError when the graph has more than
        one InputNode.
        """
        return self._apply_in_order(fn)[self._stable_uuid]

    def _apply_in_order(self, fn: Callable[[DAGNode], Any]) -> dict[str, Any]:
        results: dict[str, Any] = {}
        for node, scan in self._in_order():
            if scan.nodes:
                new_args, new_kwargs, others = scan.fill(lambda child: results[child._stable_uuid])
                node = node._copy(new_args, new_kwargs, node._bound_options, others)
            results[node._stable_uuid] = fn(node)
        return results

    def _in_order(self) -> list[tuple[DAGNode, Scan]]:
        """This node and all below it, children before parents, in the order of the arguments."""
        order: list[tuple[DAGNode, Scan]] = []
        done: set[str] = set()
        scan = self._scan()
        # Not by recursion: a graph may be a chain of any length.
        stack = [(self, scan, iter(scan.nodes))]
        while stack:
            node, scan, children = stack[-1]
            for child in children:
                if child._stable_uuid not in done:
                    below = child._scan()
                    stack.append((child, below, iter(below.nodes)))
                    break
            else:
                stack.pop()
                if node._stable_uuid not in done:
                    done.add(node._stable_uuid)
                    order.append((node, scan))
        _check_single_input([node for node, _ in order])
        return order

    def _scan(self) -> Scan:
        value = (self._bound_args, self._bound_kwargs, self._bound_other_args_to_resolve)
        return Scan(value, _is_node)

    def _get_all_child_nodes(self) -> list[DAGNode]:
        """The nodes in the arguments, however deep, each once."""
        return self._scan().nodes

    def _copy(
        self,
        new_args: tuple[Any, ...],
        new_kwargs: dict[str, Any],
        new_options: dict[str, Any],
        new_other_args_to_resolve: dict[str, Any],
    ) -> DAGNode:
        copy = self._copy_impl(new_args, new_kwargs, new_options, new_other_args_to_resolve)
        copy._stable_uuid = self._stable_uuid
        return copy

    def _copy_impl(
        self,
        new_args: tuple[Any, ...],
        new_kwargs: dict[str, Any],
        new_options: dict[str, Any],
        new_other_args_to_resolve: dict[str, Any],
    ) -> DAGNode:
        raise NotImplementedError

    # ---- the rest --------------------------------------------------------------------------------

    def __getattr__(self, attr: str) -> Any:
        if attr == "bind":
            raise AttributeError(f".bind() cannot be used again on {type(self)} ")
        if attr == "remote":
            raise AttributeError(
                f".remote() cannot be used on {type(self)}. To execute the task graph for this "
                "node, use .execute()."
            )
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{attr}'")

    def __reduce__(self) -> NoReturn:
        raise ValueError(
            "DAGNode cannot be serialized. Pass what executing it gives, or use .bind() for the "
            "call that takes it."
        )

    def _describe(self) -> str:
        return ""

    def __repr__(self) -> str:
        text = self._describe()
        return f"({type(self).__name__}, {self._stable_uuid}){f' {text}' if text else ''}"


def _is_node(value: Any) -> bool:
    return isinstance(value, DAGNode)


def _check_single_input(nodes: list[DAGNode]) -> None:
    if sum(type(node).__name__ == "InputNode" for node in nodes) > 1:
        raise AssertionError("Each DAG should only have one unique InputNode.")
