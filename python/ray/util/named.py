# SPDX-License-Identifier: Apache-2.0
"""``ray.util.list_named_actors``: which names are taken."""

from __future__ import annotations

from typing import Any

from ray import _native


def list_named_actors(all_namespaces: bool = False) -> list[str] | list[dict[str, Any]]:
    """The names of living actors in this job's namespace.

    With `all_namespaces`, a list of dicts with "name" and "namespace", of all namespaces.
    """
    from ray._private import api

    api.ensure_session()
    found = _native.list_actor_names("" if all_namespaces else None)
    if all_namespaces:
        return [{"name": name, "namespace": namespace} for name, namespace in found]
    return [name for name, _ in found]
