# SPDX-License-Identifier: Apache-2.0
"""The languages that Ray programs are written in."""

from __future__ import annotations

import enum


class Language(enum.IntEnum):
    """Language of a worker or of a function."""

    PYTHON = 0
    JAVA = 1
    CPP = 2
