# SPDX-License-Identifier: Apache-2.0
"""Serialisers that a program registers for its own classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray import _native


def register_serializer(
    cls: type, *, serializer: Callable[[Any], Any], deserializer: Callable[[Any], Any]
) -> None:
    """Has instances of exactly this class written with `serializer` and read with `deserializer`.

    It holds for this process. Readers need nothing: `deserializer` travels with each value.

    Args:
        cls: the class.
        serializer: takes an instance, gives something that can be pickled.
        deserializer: takes that, gives the instance.
    """
    if not isinstance(cls, type):
        raise TypeError(f"register_serializer needs a class, got {type(cls)}.")
    if not callable(serializer) or not callable(deserializer):
        raise TypeError("register_serializer needs callables for serializer and deserializer.")
    _native.set_serializer(cls, serializer, deserializer)


def deregister_serializer(cls: type) -> None:
    """Undoes `register_serializer`; does nothing for a class that has none."""
    _native.set_serializer(cls, None, None)
