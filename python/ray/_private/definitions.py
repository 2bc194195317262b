# SPDX-License-Identifier: Apache-2.0
"""How functions and classes travel: pickled once a session, named by the hash of the pickle.

A definition that refers to itself or to other remote functions carries their hashes, where they are
known, so that a worker which passes a function on does not give it a new name. The one hash that
can't be inside a definition is its own; the worker puts it in after loading (`note_unnamed`).
"""

from __future__ import annotations

import os
from _thread import _local

from ray import _native

TYPE_CHECKING = False  # see ray/__init__.py
if TYPE_CHECKING:
    from typing import Any

    from ray._private.options import ActorPlan, MethodPlan, TaskPlan
    from ray.actor import ActorClass, ActorMeta
    from ray.remote_function import RemoteFunction

WARN_SIZE = 10**7
ERROR_SIZE = 10**8

_loading = _local()


def note_unnamed(function: RemoteFunction) -> None:
    """Remembers a remote function that was unpickled without its hash."""
    found = getattr(_loading, "found", None)
    if found is not None:
        found.append(function)


def load(value: Any, definition_hash: bytes) -> Any:
    """Unpickles a definition in a worker. Remote functions in it that are itself get its hash."""
    _loading.found = found = []
    try:
        target = _native.decode(value)
    finally:
        _loading.found = None
    for function in found:
        if function._function is target:
            function._hash = definition_hash
    return target


def _check_size(kind: str, name: str, size: int) -> None:
    text = os.environ.get("FUNCTION_SIZE_ERROR_THRESHOLD", "")
    limit = int(text) if text.isdecimal() else ERROR_SIZE
    if size <= WARN_SIZE:
        return
    advice = (
        "Check that its definition is not implicitly capturing a large array or other object in "
        "scope. Tip: use ray.put() to put large objects in the Ray object store."
    )
    if size > limit:
        raise ValueError(
            f"The {kind} {name} is too large ({size >> 20} MiB > FUNCTION_SIZE_ERROR_THRESHOLD="
            f"{limit >> 20} MiB). {advice}"
        )
    import warnings

    warnings.warn(f"The {kind} {name} is very large ({size >> 20} MiB). {advice}", stacklevel=4)


def _export(kind: str, name: str, target: Any, known_hash: bytes | None) -> tuple[Any, bytes]:
    try:
        function, definition_hash, size = _native.export_definition(
            target, name, kind == "actor class", known_hash
        )
    except Exception as exc:
        from ray._private import serialization

        serialization.raise_unserializable(exc, f"the {kind} {name}", target, name)
    _check_size(kind, name, size)
    return function, definition_hash


def export_function(source: RemoteFunction, session: int) -> Any:
    """The runtime's handle of a remote function, made once a session."""
    exported = getattr(source, "_exported", None)
    if exported is None or exported[0] != session:
        name = source._function_name
        function, source._hash = _export("function", name, source._function, source._hash)
        source._exported = exported = (session, function)
    return exported[1]


def export_class(source: ActorClass, session: int) -> Any:
    """The runtime's handle of an actor class, made once a session."""
    exported = source._exported
    if exported is None or exported[0] != session:
        name = source._class_name
        function, source._hash = _export("actor class", name, source._cls, source._hash)
        source._exported = exported = (session, function)
    return exported[1]


def _retry_metadata(retry_on: tuple[type[Exception], ...]) -> bytes:
    """The exception classes that the executing worker retries, as it unpickles them."""
    if not retry_on:
        return b""
    import cloudpickle

    return cloudpickle.dumps(retry_on)


def returns_of(plan: TaskPlan | MethodPlan) -> int:
    """What a call gives: so many references, or, -1, a generator of them."""
    from ray._private.options import STREAM

    return STREAM if plan.generator == 1 else plan.num_returns


def prepare_task_options(plan: TaskPlan) -> Any:
    """The runtime's form of a task's options."""
    return _native.make_options(
        {
            "num_returns": plan.num_returns,
            "generator": plan.generator,
            "generator_backpressure": plan.generator_limit,
            "resources": plan.resources,
            "max_retries": plan.max_retries,
            "max_calls": plan.max_calls,
            "name": plan.name,
            "retry_exceptions": plan.retry_exceptions,
            "metadata": _retry_metadata(plan.retry_on),
        }
    )


def prepare_method_options(plan: MethodPlan) -> Any:
    """The runtime's form of a method's options."""
    return _native.make_options(
        {
            "num_returns": plan.num_returns,
            "generator": plan.generator,
            "generator_backpressure": plan.generator_limit,
            "resources": {},
            "name": plan.name,
            "concurrency_group": plan.concurrency_group,
            "max_task_retries": plan.max_task_retries,
            "retry_exceptions": plan.retry_exceptions,
            "metadata": _retry_metadata(plan.retry_on),
        }
    )


def _face_info(plan: ActorPlan, meta: ActorMeta) -> bytes:
    """What whoever finds the actor by its name must know of its class."""
    if plan.name is None:
        return b""
    import cloudpickle

    return cloudpickle.dumps(meta)


def prepare_actor_options(plan: ActorPlan, meta: ActorMeta) -> Any:
    """The runtime's form of an actor's options."""
    return _native.make_options(
        {
            "resources": plan.resources,
            "placement_resources": plan.placement,
            "max_pending_calls": plan.max_pending_calls,
            "max_concurrency": plan.max_concurrency,
            "call_order": plan.call_order,
            "concurrency_groups": plan.concurrency_groups,
            "in_event_loop": plan.in_event_loop,
            "max_restarts": plan.max_restarts,
            "actor_name": plan.name,
            "actor_namespace": plan.namespace,
            "lifetime": plan.lifetime,
            "get_if_exists": plan.get_if_exists,
            "face_info": _face_info(plan, meta),
        }
    )
