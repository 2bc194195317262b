# SPDX-License-Identifier: Apache-2.0
"""Where this node is."""

from __future__ import annotations


def get_node_ip_address() -> str:
    """The address of this node, as the cluster knows it; loopback when Ray isn't running."""
    from ray import _native

    if _native.is_initialized():
        return str(_native.context()["node_ip"])
    return "127.0.0.1"
