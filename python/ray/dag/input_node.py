# SPDX-License-Identifier: Apache-2.0
"""What the user gives to a graph when it is executed."""

from __future__ import annotations

from typing import Any

from ray.dag.dag_node import DAGNode

IN_CONTEXT_MANAGER = "__in_context_manager__"
_KEY_TEXT = "Please only use int index or str as first-level key to access fields of dag input."


class InputNode(DAGNode):
    """Stands for the arguments of ``execute``; one a graph, made by ``with InputNode() as x:``.

    A single positional argument is passed on as it is. Of several, ``x[0]`` is a positional one and
    ``x.name`` or ``x["name"]`` a keyword one. With a single argument these are its own items and
    attributes.
    """

    def __init__(
        self,
        *args: Any,
        input_type: Any = None,
        _other_args_to_resolve: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if args or kwargs:
            raise ValueError("InputNode should not take any args or kwargs.")
        # Set first of all: any other attribute is one of the input's.
        self.input_attribute_nodes: dict[tuple[str, Any], InputAttributeNode] = {}
        self.input_type = input_type
        super().__init__((), {}, {}, _other_args_to_resolve)

    def _copy_impl(
        self,
        new_args: tuple[Any, ...],
        new_kwargs: dict[str, Any],
        new_options: dict[str, Any],
        new_other_args_to_resolve: dict[str, Any],
    ) -> InputNode:
        return InputNode(_other_args_to_resolve=new_other_args_to_resolve)

    def _execute_impl(self, *args: Any, **kwargs: Any) -> Any:
        assert self._in_context_manager(), (
            "InputNode is a singleton instance that should be only used in context manager for dag "
            "building and execution. See the docstring of class InputNode for examples."
        )
        if len(args) == 1 and not kwargs:
            return args[0]
        return DAGInputData(*args, **kwargs)

    def _in_context_manager(self) -> bool:
        return bool(self._bound_other_args_to_resolve.get(IN_CONTEXT_MANAGER))

    def set_context(self, key: str, val: Any) -> None:
        """Notes where the node is used."""
        self._bound_other_args_to_resolve[key] = val

    def _attribute(self, key: Any, accessor: str) -> InputAttributeNode:
        found = self.input_attribute_nodes.get((accessor, key))
        if found is None:
            found = InputAttributeNode(self, key, accessor)
            self.input_attribute_nodes[accessor, key] = found
        return found

    def __getattr__(self, key: str) -> Any:
        if key.startswith("__") and key.endswith("__"):
            raise AttributeError(key)
        if key in ("bind", "remote"):
            return DAGNode.__getattr__(self, key)
        return self._attribute(key, "__getattr__")

    def __getitem__(self, key: int | str) -> InputAttributeNode:
        assert isinstance(key, (str, int)), _KEY_TEXT
        return self._attribute(key, "__getitem__")

    def __enter__(self) -> InputNode:
        self.set_context(IN_CONTEXT_MANAGER, True)
        return self

    def __exit__(self, *exc_info: Any) -> None:
        return None

    def get_result_type(self) -> Any:
        """The type that the input was declared to have."""
        return self.input_type


class InputAttributeNode(DAGNode):
    """One item or attribute of the input."""

    def __init__(self, dag_input_node: Any, key: int | str, accessor_method: str) -> None:
        self._key = key
        self._accessor_method = accessor_method
        super().__init__((), {}, {}, {"dag_input_node": dag_input_node})

    def _copy_impl(
        self,
        new_args: tuple[Any, ...],
        new_kwargs: dict[str, Any],
        new_options: dict[str, Any],
        new_other_args_to_resolve: dict[str, Any],
    ) -> InputAttributeNode:
        given = new_other_args_to_resolve["dag_input_node"]
        return InputAttributeNode(given, self._key, self._accessor_method)

    def _execute_impl(self, *args: Any, **kwargs: Any) -> Any:
        given = self._bound_other_args_to_resolve["dag_input_node"]
        if self._accessor_method == "__getattr__" and not isinstance(given, DAGInputData):
            return getattr(given, str(self._key))
        return given[self._key]

    def _describe(self) -> str:
        return f"[{self._key!r}]" if self._accessor_method == "__getitem__" else f".{self._key}"


class DAGInputData:
    """Several arguments of ``execute``: positional ones by index, keyword ones by name."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._args = list(args)
        self._kwargs = kwargs

    def __getitem__(self, key: int | str) -> Any:
        if isinstance(key, int):
            return self._args[key]
        if isinstance(key, str):
            return self._kwargs[key]
        raise ValueError(_KEY_TEXT)
