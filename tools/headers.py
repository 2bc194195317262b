#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every header compiles alone and twice; the public ones as strict C17 and as C++17 too.

tools/headers.py BUILD_DIRECTORY JOBS
"""

import os
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
WARNINGS = ["-Wall", "-Wextra", "-Werror", "-Wno-unused-function"]
C = ["gcc", "-x", "c", "-std=gnu17", "-D_GNU_SOURCE", "-Wstrict-prototypes"]
PUBLIC = [
    ["gcc", "-x", "c", "-std=c17", "-pedantic", "-Wstrict-prototypes"],
    ["g++", "-x", "c++", "-std=c++17"],
]


def headers() -> list[str]:
    """The headers that git tracks or would add."""
    command = ["git", "-C", ROOT, "ls-files", "--cached", "--others", "--exclude-standard", "*.h"]
    listing = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.decode().split()
    return [path for path in listing if os.path.isfile(os.path.join(ROOT, path))]


def definitions(header: str) -> list[str]:
    """What a directory's own CMakeLists.txt defines for its files."""
    return ["-DRAY_CHECK_INTERLEAVE=1"] if header.startswith("tests/interleave/") else []


def compile_alone(compiler: list[str], header: str, build: str) -> str:
    """Compiles two inclusions of a header; the compiler's words when it fails."""
    source = f'#include "{header}"\n' * 2
    directories = (".", "src", "include", "tests/lib", os.path.dirname(header))
    includes = definitions(header) + [f"-I{os.path.join(ROOT, d)}" for d in directories]
    includes += [f"-I{build}", f"-I{build}/proto", f"-I{sysconfig.get_path('include')}"]
    command = compiler + WARNINGS + includes + ["-fsyntax-only", "-"]
    done = subprocess.run(
        command, input=source.encode(), capture_output=True, cwd=ROOT, check=False
    )
    return "" if done.returncode == 0 else f"{header} ({compiler[0]}):\n{done.stderr.decode()}"


def main() -> int:
    """Checks all headers; the exit status tells whether one failed."""
    build, jobs = os.path.abspath(sys.argv[1]), int(sys.argv[2])
    work: list[tuple[list[str], str]] = []
    for header in headers():
        public = header.startswith("include/")
        work += [(compiler, header) for compiler in (PUBLIC if public else [C])]
    with ThreadPoolExecutor(jobs) as pool:
        results = pool.map(lambda item: compile_alone(item[0], item[1], build), work)
        failures = [text for text in results if text]
    print("".join(failures) + f"headers: {len(work)} compiled alone, {len(failures)} errors")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
