#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Every check that reads the code instead of running it. All of them run, whatever the first says.
#
#   tools/lint.sh BUILD_DIRECTORY JOBS
set -u
cd "$(dirname "$0")/.."
build=$1
jobs=$2
python=${PYTHON:-/usr/bin/python3}
failed=

check() {
    name=$1
    shift
    echo "--- $name"
    "$@" || failed="$failed $name"
}

format() {
    git ls-files -z --cached --others --exclude-standard '*.c' '*.h' |
        xargs -0 -r -n 1 -P "$jobs" sh -c '[ ! -e "$1" ] ||
            clang-format-14 --dry-run --Werror "$1" 2>/dev/null ||
            { echo "$1: not formatted: run make format"; exit 1; }' format
}

# style and information are left to clang-tidy. Suppressions, each with its reason:
#   unknownMacro, missingInclude*   system headers aren't given, to keep it quick
#   nullPointerRedundantCheck       it takes ASSERT for a mere check
#   missingReturn                   Python's macros that return are in headers that aren't given
#   legacyUninitvar, uninitvar      it doesn't see that a count tells how much of an array is
#                                   filled; clang's analyzer and the sanitizers do
static_analysis() {
    mkdir -p "$build/cppcheck"
    sources=$(git ls-files '*.c' | grep -E '^(src|sim|python/native|tests/lib|examples)/' || true)
    [ -n "$sources" ] || return 0
    cppcheck --quiet --library=python --enable=warning,performance,portability --std=c11 \
        --error-exitcode=1 \
        --inline-suppr --suppress=unknownMacro --suppress=nullPointerRedundantCheck \
        --suppress=missingReturn --suppress=uninitvar --suppress=legacyUninitvar \
        --cppcheck-build-dir="$build/cppcheck" -j "$jobs" -D_GNU_SOURCE -D__x86_64__ -D__GNUC__=12 \
        -I src -I include -I . $sources && echo "cppcheck: nothing found"
}

check format format
check tidy "$python" tools/tidy.py
check purity "$python" tools/purity.py "$build"
check headers "$python" tools/headers.py "$build" "$jobs"
check clang-tidy "$python" tools/clang_tidy.py "$build" "$jobs"
check cppcheck static_analysis
if [ -n "$failed" ]; then
    echo "lint: failed:$failed"
    exit 1
fi
echo "lint: all checks passed"
