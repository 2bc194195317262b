# SPDX-License-Identifier: Apache-2.0
"""Finding out what inside an object can't be serialised."""

from __future__ import annotations

import inspect
import sys
from typing import Any, NamedTuple


class FailureTuple:
    """One thing that can't be serialised, under which name, and what holds it."""

    def __init__(self, obj: Any, name: str, parent: Any) -> None:
        self.obj = obj
        self.name = name
        self.parent = parent

    def __repr__(self) -> str:
        return f"FailTuple({self.name} [obj={self.obj}, parent={self.parent}])"


class _Child(NamedTuple):
    name: str
    value: Any


class _Inspection:
    """One walk over an object, depth first, to the smallest parts that fail."""

    def __init__(self, depth: int, file: Any) -> None:
        self.depth = depth
        self.file = file
        self.failures: dict[int, FailureTuple] = {}
        self.seen: set[int] = set()
        self.level = 0

    def say(self, text: str) -> None:
        print("    " * self.level + text, file=self.file)

    def visit(self, obj: Any, name: str, parent: Any, depth: int) -> bool:
        """Whether the object can be serialised; records what can't."""
        problem = _try(obj)
        if problem is None:
            return True
        self.say(f"!!! FAIL serialization: {problem}")
        if id(obj) in self.seen:  # what is wrong with it is found there
            return False
        if depth <= 0:
            self.record(obj, name, parent)
            return False
        self.seen.add(id(obj))
        self.level += 1
        found = False
        for title, children in _children(obj):
            for child in children:
                if _try(child.value) is None:
                    continue
                if not found:
                    self.say(title)
                found = True
                self.say(f"Serializing '{child.name}' {_short(child.value)}...")
                self.visit(child.value, child.name, obj, depth - 1)
        self.level -= 1
        if not found:
            self.record(obj, name, parent)
        return False

    def record(self, obj: Any, name: str, parent: Any) -> None:
        self.failures.setdefault(id(obj), FailureTuple(obj, name, parent))


def _try(obj: Any) -> BaseException | None:
    from ray import _native

    try:
        _native.try_serialize(obj)
    except Exception as exc:
        return exc
    return None


def _short(obj: Any) -> str:
    try:
        text = repr(obj)
    except Exception:
        text = f"<{type(obj).__qualname__}>"
    return text if len(text) <= 200 else text[:200] + "..."


def _children(obj: Any) -> list[tuple[str, list[_Child]]]:
    """The parts that a pickler would go into, by where they were found."""
    from ray.actor import ActorClass
    from ray.remote_function import RemoteFunction

    found: list[tuple[str, list[_Child]]] = []
    if inspect.ismethod(obj):
        found.append(("Checking the method's instance...", [_Child("__self__", obj.__self__)]))
    elif inspect.isfunction(obj):
        variables = inspect.getclosurevars(obj)
        for kind in ("globals", "nonlocals"):
            values = getattr(variables, kind)
            title = f"Detected {len(values)} {kind[:-1]} variables. Checking serializability..."
            found.append((title, [_Child(k, v) for k, v in values.items()]))
    elif isinstance(obj, dict):
        found.append(("Checking the items...", [_Child(repr(k), v) for k, v in obj.items()]))
    elif isinstance(obj, (list, tuple, set, frozenset)):
        items = [_Child(f"[{i}]", v) for i, v in enumerate(obj)]
        found.append(("Checking the items...", items))
    elif isinstance(obj, RemoteFunction):
        found.append(("Checking the function...", [_Child(obj._function.__name__, obj._function)]))
    elif isinstance(obj, ActorClass):
        found.append(("Checking the class...", [_Child(obj._cls.__name__, obj._cls)]))
    elif isinstance(obj, type):
        members = [_Child(k, v) for k, v in vars(obj).items() if not k.startswith("__")]
        inits = [_Child(k, v) for k, v in vars(obj).items() if k in ("__init__", "__call__")]
        found.append(("Checking the members of the class...", members + inits))
    else:
        state = getattr(obj, "__dict__", None) or {}
        title = "Checking the attributes..."
        found.append((title, [_Child(k, v) for k, v in state.items()]))
    return found


def inspect_serializability(
    base_obj: Any, name: str | None = None, depth: int = 3, print_file: Any = None
) -> tuple[bool, set[FailureTuple]]:
    """Says whether an object can be sent to a worker and, if not, which of its parts can't.

    Args:
        base_obj: the object.
        name: what to call it in the report.
        depth: how deep to look.
        print_file: where the report goes; stdout by default.

    Returns:
        Whether it can be serialised, and the set of what can't.
    """
    file = print_file if print_file is not None else sys.stdout
    inspection = _Inspection(depth, file)
    title = name if name is not None else _short(base_obj)
    line = f"Checking Serializability of {_short(base_obj)}"
    print(f"{'=' * len(line)}\n{line}\n{'=' * len(line)}", file=file)
    serializable = inspection.visit(base_obj, title, None, depth)
    if not serializable and not inspection.failures:  # a loop of things that fail by each other
        inspection.record(base_obj, title, None)
    failures = set(inspection.failures.values())
    if not serializable:
        rule = "=" * 80
        print(f"{rule}\nVariable:", file=file)
        for failure in failures:
            print(f"\n\t{failure}", file=file)
        print(
            "\nwas found to be non-serializable. There may be multiple other undetected variables "
            f"that were non-serializable.\nConsider either removing the instantiation/imports of "
            f"these variables or moving them into the function/class.\n{rule}",
            file=file,
        )
    return serializable, failures
