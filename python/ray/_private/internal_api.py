# SPDX-License-Identifier: Apache-2.0
"""What programs reach into Ray for although it isn't public, and what tests of Ray need."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ray import ObjectRef, _native


def _as_list(refs: ObjectRef[Any] | Iterable[ObjectRef[Any]]) -> list[ObjectRef[Any]]:
    return [refs] if isinstance(refs, ObjectRef) else list(refs)


def free(object_refs: ObjectRef[Any] | Iterable[ObjectRef[Any]], local_only: bool = False) -> None:
    """Drops the values now, everywhere; whoever reads them gets an ``ObjectFreedError``.

    On one node, ``local_only`` makes no difference.
    """
    for ref in _as_list(object_refs):
        _native.free(ref)


def lose(object_refs: ObjectRef[Any] | Iterable[ObjectRef[Any]]) -> None:
    """The store loses the values, as if their node had died, and tells nobody.

    Only for values in the store that this process owns. Who reads them next finds out, and they are
    made again from their lineage, or read as lost.
    """
    for ref in _as_list(object_refs):
        _native.lose(ref)
