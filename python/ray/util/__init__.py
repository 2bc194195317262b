# SPDX-License-Identifier: Apache-2.0
"""Helpers around the core: pools, queues, serialisers, checks, and small conveniences."""

from __future__ import annotations

TYPE_CHECKING = False

if TYPE_CHECKING:  # "as": a type checker takes these for public
    from ray.util.actor_pool import ActorPool as ActorPool
    from ray.util.check_serialize import inspect_serializability as inspect_serializability
    from ray.util.debug import disable_log_once_globally as disable_log_once_globally
    from ray.util.debug import enable_periodic_logging as enable_periodic_logging
    from ray.util.debug import log_once as log_once
    from ray.util.helpers import as_completed as as_completed
    from ray.util.helpers import map_unordered as map_unordered
    from ray.util.named import list_named_actors as list_named_actors
    from ray.util.net import get_node_ip_address as get_node_ip_address
    from ray.util.serialization import deregister_serializer as deregister_serializer
    from ray.util.serialization import register_serializer as register_serializer

_NAMES = {
    "ActorPool": "ray.util.actor_pool",
    "as_completed": "ray.util.helpers",
    "deregister_serializer": "ray.util.serialization",
    "disable_log_once_globally": "ray.util.debug",
    "enable_periodic_logging": "ray.util.debug",
    "get_node_ip_address": "ray.util.net",
    "inspect_serializability": "ray.util.check_serialize",
    "list_named_actors": "ray.util.named",
    "log_once": "ray.util.debug",
    "map_unordered": "ray.util.helpers",
    "register_serializer": "ray.util.serialization",
}

_MODULES = ("actor_pool", "check_serialize", "debug", "helpers", "named", "net", "serialization")

__all__ = sorted(_NAMES)


def __getattr__(name: str) -> object:
    import importlib

    module = _NAMES.get(name)
    if module is not None:
        value = getattr(importlib.import_module(module), name)
        globals()[name] = value
        return value
    if name in _MODULES:
        return importlib.import_module(f"ray.util.{name}")
    raise AttributeError(f"module 'ray.util' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_NAMES})
