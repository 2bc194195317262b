#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the built archives really call and export, where include rules can be argued with.

    tools/purity.py BUILD_DIRECTORY

- Pure archives (ray_library(... PURE)) call nothing but each other, the generated messages and the
  symbols of tools/pure_symbols.txt: no clock, socket, thread, file, lock or allocator slips in.
- Every symbol that an archive exports begins with a prefix of its module (docs/glossary.md).
- libray.so exports ray_* only.
"""

import fnmatch
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from typing import NamedTuple

from tidy import read_prefixes

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# Every shared object has these, whatever it exports on purpose.
LINKER_SYMBOLS = {"_init", "_fini", "_edata", "_end", "__bss_start"}


class Archive(NamedTuple):
    """One module library as it was built: its symbols by member."""

    kind: str
    name: str
    directory: str
    undefined: list[tuple[str, str]]
    defined: list[tuple[str, str]]


def parse_nm(output: str) -> list[tuple[str, str]]:
    """(member, symbol) pairs from nm's POSIX format for archives."""
    pairs, member = [], ""
    for line in output.split("\n"):
        header = re.match(r".*\[(.+)\]:$", line)
        if header:
            member = header.group(1)
        elif line.strip():
            pairs.append((member, line.split()[0].split("@")[0]))
    return pairs


def nm(path: str, *options: str) -> list[tuple[str, str]]:
    """Runs nm on an archive or a shared object."""
    command = ["nm", "--format=posix", *options, path]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return parse_nm(done.stdout.decode())


def read_symbols(text: str) -> list[str]:
    """The allowed symbols, one a line; a * stands for any ending."""
    lines = (line.split("#")[0].strip() for line in text.split("\n"))
    return [line for line in lines if line]


def is_listed(symbol: str, allowed: Iterable[str]) -> bool:
    """Whether a symbol is in a list of names and patterns."""
    return any(fnmatch.fnmatchcase(symbol, pattern) for pattern in allowed)


def check_pure(archives: list[Archive], allowed: list[str], shared: set[str]) -> list[str]:
    """Calls of pure archives that lead out of what is pure."""
    known = set(shared)
    for archive in archives:
        if archive.kind == "pure":
            known.update(symbol for _, symbol in archive.defined)
    findings = []
    for archive in archives:
        for member, symbol in archive.undefined if archive.kind == "pure" else []:
            if symbol not in known and not is_listed(symbol, allowed):
                text = f"{archive.directory}: {member} calls {symbol}"
                findings.append(f"{text}, which is not in tools/pure_symbols.txt [purity]")
    return findings


def check_exports(archives: list[Archive], prefixes: dict[str, list[str]]) -> list[str]:
    """Exported symbols that don't show which module they are of."""
    findings = []
    for archive in archives:
        allowed = tuple(prefixes.get(archive.directory, [])) + ("ray_",)
        for member, symbol in archive.defined:
            if archive.directory in prefixes and not (symbol + "_").startswith(allowed):
                text = f"{archive.directory}: {member} exports {symbol}"
                findings.append(f"{text}, without a prefix of its module [prefix]")
    return findings


def check_library(symbols: Iterable[str]) -> list[str]:
    """Dynamic symbols of libray.so beyond the public ones."""
    return [
        f"libray.so exports {symbol} [exports]"
        for symbol in symbols
        if not symbol.startswith("ray_") and symbol not in LINKER_SYMBOLS
    ]


def read_archives(build: str) -> list[Archive]:
    """The archives that the build names and that have been built."""
    archives = []
    with open(os.path.join(build, "libraries.txt"), encoding="utf-8") as file:
        for line in file:
            kind, name, directory, path = line.split()
            if os.path.exists(path):
                undefined = nm(path, "--undefined-only")
                defined = nm(path, "--defined-only", "--extern-only")
                archives.append(Archive(kind, name, directory, undefined, defined))
    return archives


def read_root(path: str) -> str:
    """A file of the project as text."""
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        return file.read()


def main() -> int:
    """Checks a build; the exit status tells whether there was a finding."""
    build = sys.argv[1]
    archives = read_archives(build)
    messages = os.path.join(build, "lib", "libproto.a")
    shared: set[str] = set()
    if os.path.exists(messages):
        shared = {symbol for _, symbol in nm(messages, "--defined-only", "--extern-only")}
    findings = check_pure(archives, read_symbols(read_root("tools/pure_symbols.txt")), shared)
    findings += check_exports(archives, read_prefixes(read_root("docs/glossary.md")))
    library = os.path.join(build, "lib", "libray.so")
    if os.path.exists(library):
        symbols = [symbol for _, symbol in nm(library, "--dynamic", "--defined-only")]
        findings += check_library(symbols)
    print("\n".join(findings + [f"purity: {len(archives)} archives, {len(findings)} errors"]))
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
