# SPDX-License-Identifier: Apache-2.0
"""The command ``ray`` of an installed wheel: the program of that name beside the other ones."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Becomes that program."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    path = os.path.join(package, "_runtime", "bin", "ray")
    os.execv(path, [path, *sys.argv[1:]])
