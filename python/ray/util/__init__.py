# SPDX-License-Identifier: Apache-2.0
"""Helpers around the core: pools, queues, serialisers, checks, and small conveniences."""

from __future__ import annotations

TYPE_CHECKING = False

if TYPE_CHECKING:
    from ray.util.actor_pool import ActorPool
    from ray.util.check_serialize import inspect_serializability
    from ray.util.debug import disable_log_once_globally, enable_periodic_logging, log_once
    from ray.util.helpers import as_completed, map_unordered
    from ray.util.net import get_node_ip_address
    from ray.util.serialization import deregister_serializer, register_serializer

_NAMES = {
    "ActorPool": "ray.util.actor_pool",
    "as_completed": "ray.util.helpers",
    "deregister_serializer": "ray.util.serialization",
    "disable_log_once_globally": "ray.util.debug",
    "enable_periodic_logging": "ray.util.debug",
    "get_node_ip_address": "ray.util.net",
    "inspect_serializability": "ray.util.check_serialize",
    "log_once": "ray.util.debug",
    "map_unordered": "ray.util.helpers",
    "register_serializer": "ray.util.serialization",
}

_MODULES = ("actor_pool", "check_serialize", "debug", "helpers", "net", "serialization")

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
