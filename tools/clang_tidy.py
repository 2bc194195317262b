#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs clang-tidy over the C files of a build, those only that changed since they passed.

    tools/clang_tidy.py BUILD_DIRECTORY JOBS

A file has passed when a stamp in the build bears the hash of its text, of all project headers that
it includes, of its compiler flags and of .clang-tidy.
"""

import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CLANG_TIDY = "clang-tidy-14"
# The analyzer takes nearly all of the time: it follows a function's paths up to this many states, a
# quarter of the usual. That finds what it finds near the start of a path, in a quarter of the time.
ANALYZER = [f"--extra-arg={x}" for x in ("-Xclang", "-analyzer-config")] + [
    f"--extra-arg={x}" for x in ("-Xclang", "max-nodes=60000")
]


def wanted(build: str) -> list[dict[str, str]]:
    """The build's own C files; generated code isn't checked."""
    with open(os.path.join(build, "compile_commands.json"), encoding="utf-8") as file:
        entries = {entry["file"]: entry for entry in json.load(file)}
    inside = [e for path, e in sorted(entries.items()) if path.startswith(ROOT + os.sep)]
    return [e for e in inside if not e["file"].startswith(build + os.sep)]


def stamp_of(entry: dict[str, str], config: bytes) -> str:
    """The hash that names a passed check of this file, as it is now."""
    command = [word for word in shlex.split(entry["command"]) if word not in ("-MD", "-c")]
    for option in ("-MT", "-MF", "-o"):
        while option in command:
            at = command.index(option)
            del command[at : at + 2]
    done = subprocess.run(
        command + ["-MM"], cwd=entry["directory"], capture_output=True, check=True
    )
    digest = hashlib.sha256(config + " ".join(command + ANALYZER).encode())
    for name in sorted(set(re.sub(rb"^.*?:|\\\n", b"", done.stdout).split())):
        with open(os.path.join(entry["directory"].encode(), name), "rb") as file:
            digest.update(file.read())
    return digest.hexdigest()


def check(entry: dict[str, str], build: str, config: bytes) -> tuple[str, bool]:
    """Checks one file unless its stamp is there; returns (complaints, was it run)."""
    stamp = os.path.join(build, "clang-tidy", stamp_of(entry, config))
    if os.path.exists(stamp):
        return "", False
    command = [CLANG_TIDY, "--quiet", "-p", build, *ANALYZER, entry["file"]]
    if entry["file"].startswith(os.path.join(ROOT, "tests", "")):
        # Following every path is slow, and a test says itself when it goes wrong.
        command.append("--checks=-clang-analyzer-*")
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode == 0 and not done.stdout.strip():
        with open(stamp, "w", encoding="utf-8"):
            return "", True
    return done.stdout.decode() + (done.stderr.decode() if not done.stdout else ""), True


def split_findings(text: str) -> list[str]:
    """The findings in clang-tidy's output, each with its notes and source lines."""
    return [
        part
        for part in re.split(r"^(?=/\S+:\d+:\d+: (?:error|warning):)", text, flags=re.M)
        if part
    ]


def main() -> int:
    """Checks what changed; the exit status tells whether there was a complaint."""
    build, jobs = os.path.abspath(sys.argv[1]), int(sys.argv[2])
    os.makedirs(os.path.join(build, "clang-tidy"), exist_ok=True)
    with open(os.path.join(ROOT, ".clang-tidy"), "rb") as file:
        config = file.read()
    entries = wanted(build)
    failed = ran = 0
    seen = set()  # A finding in a header comes with every file that includes it.
    with ThreadPoolExecutor(jobs) as pool:
        for text, was_run in pool.map(lambda e: check(e, build, config), entries):
            ran += was_run
            failed += bool(text)
            for finding in split_findings(text):
                if finding not in seen:
                    seen.add(finding)
                    sys.stdout.write(finding.replace(ROOT + os.sep, ""))
    print(f"clang-tidy: {len(entries)} files, {ran} checked, {failed} with findings")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
