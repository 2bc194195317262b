# SPDX-License-Identifier: Apache-2.0
"""The stamps of tools/clang_tidy.py: what changed, or what it depends on, is checked again."""

import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tools"))

import clang_tidy


def test_stamp_changes_with_file_header_flags_and_config(tmp_path):
    (tmp_path / "x.h").write_text("int x(void);\n")
    (tmp_path / "x.c").write_text('#include "x.h"\n')
    command = f"gcc -MD -MT o -MF d -o x.o -c {tmp_path}/x.c"
    entry = {"directory": str(tmp_path), "file": f"{tmp_path}/x.c", "command": command}
    seen = {clang_tidy.stamp_of(entry, b"")}
    assert clang_tidy.stamp_of(entry, b"") in seen
    (tmp_path / "x.h").write_text("int x(int);\n")
    seen.add(clang_tidy.stamp_of(entry, b""))
    (tmp_path / "x.c").write_text('#include "x.h"\nint y;\n')
    seen.add(clang_tidy.stamp_of(entry, b""))
    seen.add(clang_tidy.stamp_of(entry, b"Checks: other"))
    seen.add(clang_tidy.stamp_of({**entry, "command": command + " -DA"}, b""))
    assert len(seen) == 5


def test_findings_are_split_with_their_notes():
    text = (
        "/a/x.c:1:2: error: one [a]\n  code\n/a/x.c:1:9: note: why\n/a/y.c:3:4: warning: two [b]\n"
    )
    first, second = clang_tidy.split_findings(text)
    assert "note: why" in first
    assert second.startswith("/a/y.c")
