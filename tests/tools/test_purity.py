# SPDX-License-Identifier: Apache-2.0
"""tools/purity.py on archives compiled here: a stray clock shows, a pure one passes."""

import os
import subprocess
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tools"))

import purity

PURE = "int gcs_f(int x) { return x + 1; }\n"
CLOCK = """#include <time.h>
long gcs_now(void) { struct timespec t; clock_gettime(1, &t); return t.tv_sec; }
"""
CALLS = "int gcs_f(int x);\nint own_g(void) { return gcs_f(1); }\n"


@pytest.fixture(name="archive")
def make_archive(tmp_path):
    """Compiles sources into an archive and reads it as purity.py does."""

    def make(kind, directory, source):
        name = directory.rsplit("/", 1)[-1]
        path = tmp_path / f"lib{name}.a"
        unit = tmp_path / f"{name}.c"
        unit.write_text(source)
        subprocess.run(["gcc", "-c", "-O2", str(unit), "-o", f"{unit}.o"], check=True)
        subprocess.run(["ar", "rcs", str(path), f"{unit}.o"], check=True)
        (tmp_path / "libraries.txt").write_text(f"{kind} {name} {directory} {path}\n")
        return purity.read_archives(str(tmp_path))[0]

    return make


def test_pure_archive_passes(archive):
    assert purity.check_pure([archive("pure", "src/gcs", PURE)], [], set()) == []


def test_clock_in_a_pure_archive_shows(archive):
    library = archive("pure", "src/gcs", CLOCK)
    (finding,) = [f for f in purity.check_pure([library], [], set()) if "clock_gettime" in f]
    assert finding.startswith("src/gcs: gcs.c.o calls clock_gettime")
    assert purity.check_pure([library], ["clock_*", "__stack_chk_fail"], set()) == []


def test_only_pure_archives_are_held_to_it(archive):
    assert purity.check_pure([archive("other", "src/gcs", CLOCK)], [], set()) == []


def test_pure_archives_may_call_each_other_but_no_others(archive):
    caller = archive("pure", "src/own", CALLS)
    assert purity.check_pure([caller, archive("pure", "src/gcs", PURE)], [], set()) == []
    assert len(purity.check_pure([caller, archive("other", "src/gcs", PURE)], [], set())) == 1
    assert purity.check_pure([caller], [], {"gcs_f"}) == []


def test_exports_bear_a_prefix_of_their_module(archive):
    library = archive("pure", "src/gcs", PURE + "int other(void) { return 2; }\n")
    (finding,) = purity.check_exports([library], {"src/gcs": ["gcs_"]})
    assert "exports other" in finding


def test_libray_exports_ray_only():
    assert purity.check_library(["ray_init", "_init", "__bss_start"]) == []
    assert len(purity.check_library(["ray_init", "wk_submit"])) == 1


def test_the_allow_list_holds_nothing_impure():
    text = purity.read_root("tools/pure_symbols.txt")
    allowed = purity.read_symbols(text)
    impure = "clock_gettime epoll_wait pthread_mutex_lock open getenv rand malloc write".split()
    assert [name for name in impure if purity.is_listed(name, allowed)] == []
