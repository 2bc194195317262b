# SPDX-License-Identifier: Apache-2.0
"""Finding the nodes inside of a node's arguments, and putting values in their place.

Lists, tuples, sets and dicts are walked. Other objects are pickled, with nodes as persistent ids,
which finds what is anywhere inside of them; those that hold no node are passed on as they are.
"""

from __future__ import annotations

import io
import pickle
import types
from collections.abc import Callable
from typing import Any

import cloudpickle

from ray import _native

# Nothing of these types holds a node. A function that refers to a node can't be submitted anyway.
_ATOMS = frozenset(
    (
        *(bool, int, float, complex, str, bytes, bytearray, memoryview, range, slice),
        *(type(None), type(Ellipsis), type, types.FunctionType, types.BuiltinFunctionType),
        *(types.ModuleType, _native.ObjectRef),
    )
)
_KEPT = (_native.ObjectRef, _native.ActorHandleBase, _native.RemoteFunctionBase)


class _Opened:
    """An object of any class, pickled, and the objects in it that were kept out of the pickle."""

    def __init__(self, data: bytes, buffers: list[Any], outside: list[Any]) -> None:
        self.data = data
        self.buffers = buffers
        self.outside = outside


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    def __init__(self, file: io.BytesIO, is_node: Callable[[Any], bool]) -> None:
        self.buffers: list[Any] = []
        self.outside: list[Any] = []
        self.nodes = 0
        self._is_node = is_node
        super().__init__(file, protocol=5, buffer_callback=self.buffers.append)

    def persistent_id(self, obj: Any) -> int | None:
        is_node = self._is_node(obj)
        if not is_node and not isinstance(obj, _KEPT):
            return None
        self.nodes += is_node
        self.outside.append(obj)
        return len(self.outside) - 1


class _Unpickler(pickle.Unpickler):
    def __init__(self, opened: _Opened, replace: Callable[[Any], Any]) -> None:
        super().__init__(io.BytesIO(opened.data), buffers=opened.buffers)
        self._outside = opened.outside
        self._replace = replace

    def persistent_load(self, pid: int) -> Any:
        return self._replace(self._outside[pid])


class Scan:
    """One value, and the nodes in it.

    Attributes:
        nodes: the nodes, each once, in the order in which they were found.
    """

    def __init__(self, value: Any, is_node: Callable[[Any], bool]) -> None:
        self.nodes: list[Any] = []
        self._value = value
        self._is_node = is_node
        self._seen: set[int] = set()
        self._opened: dict[int, _Opened] = {}
        self._inside: set[int] = set()  # containers that the walk is in: some hold themselves
        self._find(value)

    def _note(self, node: Any) -> None:
        if id(node) not in self._seen:
            self._seen.add(id(node))
            self.nodes.append(node)

    def _find(self, value: Any) -> None:
        kind = type(value)
        if kind in _ATOMS or isinstance(value, _KEPT):
            return
        if self._is_node(value):
            self._note(value)
        elif kind in (list, tuple, set, frozenset, dict):
            if id(value) in self._inside:
                return
            self._inside.add(id(value))
            for item in value:
                self._find(item)
            if kind is dict:
                for item in value.values():
                    self._find(item)
            self._inside.discard(id(value))
        elif id(value) not in self._opened and not _is_plain_array(value):
            self._open(value)

    def _open(self, value: Any) -> None:
        file = io.BytesIO()
        pickler = _Pickler(file, self._is_node)
        try:
            pickler.dump(value)
        except Exception:
            return  # submitting it will say what is wrong with it
        if pickler.nodes:
            self._opened[id(value)] = _Opened(file.getvalue(), pickler.buffers, pickler.outside)
            for obj in pickler.outside:
                if self._is_node(obj):
                    self._note(obj)

    def fill(self, value_of: Callable[[Any], Any]) -> Any:
        """The value with each node replaced; what holds no node stays the very same object."""
        return self._fill(self._value, value_of) if self.nodes else self._value

    def _fill(self, value: Any, value_of: Callable[[Any], Any]) -> Any:
        kind = type(value)
        if kind in _ATOMS:
            return value
        if self._is_node(value):
            return value_of(value)
        if kind in (list, tuple, set, frozenset, dict):
            if id(value) in self._inside:
                return value
            self._inside.add(id(value))
            filled = self._fill_container(kind, value, value_of)
            self._inside.discard(id(value))
            return filled
        opened = self._opened.get(id(value))
        if opened is None:
            return value
        return _Unpickler(opened, lambda o: value_of(o) if self._is_node(o) else o).load()

    def _fill_container(self, kind: type, value: Any, value_of: Callable[[Any], Any]) -> Any:
        if kind is dict:
            pairs = [(self._fill(k, value_of), self._fill(v, value_of)) for k, v in value.items()]
            same = all(a is k and b is v for (a, b), (k, v) in zip(pairs, value.items()))
            return value if same else dict(pairs)
        items = [self._fill(item, value_of) for item in value]
        return value if all(a is b for a, b in zip(items, value)) else kind(items)


def _is_plain_array(value: Any) -> bool:
    dtype = getattr(value, "dtype", None)
    return type(value).__module__ == "numpy" and getattr(dtype, "hasobject", None) is False
