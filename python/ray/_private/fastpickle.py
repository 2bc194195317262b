# SPDX-License-Identifier: Apache-2.0
"""The C pickler with our hooks; apart from `serialization`, so that it needs no cloudpickle."""

from __future__ import annotations

from collections.abc import Callable
from pickle import Pickler
from typing import Any

from ray import _native


class FastPickler(Pickler):
    """Pickles by name, with references and handles as numbers; raises where that is not right."""

    reducer_override = _native.reduce_fast  # a built-in, so it is called without self


def make_pickler(file: Any, buffer_callback: Callable[[Any], Any]) -> FastPickler:
    """A pickler that writes to `file`; called by the C code."""
    return FastPickler(file, 5, buffer_callback=buffer_callback)
