# SPDX-License-Identifier: Apache-2.0
"""Ray: tasks, actors and shared immutable objects, on a runtime written in C.

Importing this package loads nothing but this file: each public name is found on first use and then
kept as a plain attribute. So ``import ray`` costs a millisecond or two, and a program pays only for
what it touches.
"""

from __future__ import annotations

from ray._version import __commit__, __version__

TYPE_CHECKING = False  # as typing has it, which would take a fifth of the time that we have
if TYPE_CHECKING:  # "as": a type checker takes these for public
    from ray import (
        actor as actor,
        cloudpickle as cloudpickle,
        dag as dag,
        exceptions as exceptions,
        job_config as job_config,
        remote_function as remote_function,
        runtime_context as runtime_context,
        util as util,
    )
    from ray._native import ObjectRef as ObjectRef
    from ray._private.api import (
        LOCAL_MODE as LOCAL_MODE,
        SCRIPT_MODE as SCRIPT_MODE,
        WORKER_MODE as WORKER_MODE,
        available_resources as available_resources,
        cancel as cancel,
        cluster_resources as cluster_resources,
        get as get,
        get_actor as get_actor,
        get_gpu_ids as get_gpu_ids,
        init as init,
        is_initialized as is_initialized,
        kill as kill,
        method as method,
        nodes as nodes,
        put as put,
        remote as remote,
        shutdown as shutdown,
        timeline as timeline,
        wait as wait,
    )
    from ray._private.generators import DynamicObjectRefGenerator, ObjectRefGenerator
    from ray._private.ids import (
        ActorClassID as ActorClassID,
        ActorID as ActorID,
        ClusterID as ClusterID,
        FunctionID as FunctionID,
        JobID as JobID,
        NodeID as NodeID,
        PlacementGroupID as PlacementGroupID,
        TaskID as TaskID,
        UniqueID as UniqueID,
        WorkerID as WorkerID,
    )
    from ray._private.language import Language as Language
    from ray._private.logconfig import LoggingConfig as LoggingConfig
    from ray.runtime_context import get_runtime_context as get_runtime_context

# Public name -> module that defines it.
_NAMES: dict[str, str] = {
    **dict.fromkeys(
        (
            "LOCAL_MODE",
            "SCRIPT_MODE",
            "WORKER_MODE",
            "available_resources",
            "cancel",
            "cluster_resources",
            "get",
            "get_actor",
            "get_gpu_ids",
            "init",
            "is_initialized",
            "kill",
            "method",
            "nodes",
            "put",
            "remote",
            "shutdown",
            "timeline",
            "wait",
        ),
        "ray._private.api",
    ),
    **dict.fromkeys(
        (
            "ActorClassID",
            "ActorID",
            "ClusterID",
            "FunctionID",
            "JobID",
            "NodeID",
            "PlacementGroupID",
            "TaskID",
            "UniqueID",
            "WorkerID",
        ),
        "ray._private.ids",
    ),
    "ObjectRef": "ray._native",
    "DynamicObjectRefGenerator": "ray._private.generators",
    "ObjectRefGenerator": "ray._private.generators",
    "ObjectID": "ray._native",
    "Language": "ray._private.language",
    "LoggingConfig": "ray._private.logconfig",
    "get_runtime_context": "ray.runtime_context",
}

_MODULES = frozenset(
    (
        "_native",
        "_private",
        "_raylet",
        "actor",
        "cloudpickle",
        "dag",
        "exceptions",
        "job_config",
        "remote_function",
        "runtime_context",
        "util",
    )
)

__all__ = sorted(
    [*_NAMES, "actor", "cloudpickle", "exceptions", "util", "__version__", "__commit__"]
)


def __getattr__(name: str) -> object:
    module = _NAMES.get(name)
    # Underscored names of the import system come by here too, so the cheap answers go first.
    if module is None and name not in _MODULES:
        raise AttributeError(f"module 'ray' has no attribute {name!r}")
    import sys

    wanted = module or f"ray.{name}"
    __import__(wanted)
    if module is None:
        return sys.modules[wanted]
    value = getattr(sys.modules[wanted], name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_NAMES, *_MODULES})
