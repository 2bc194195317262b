# SPDX-License-Identifier: Apache-2.0
"""Features of Ray that this version does not have yet: they fail loudly, and in one voice."""

from __future__ import annotations


def not_built(feature: str, instead: str = "") -> NotImplementedError:
    """The error for a feature that is planned but not there; the caller raises it."""
    text = f"{feature} is not built yet in this version of ray-c."
    return NotImplementedError(f"{text} {instead}" if instead else text)
