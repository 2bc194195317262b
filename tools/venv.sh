#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Makes the virtual environment of a build: the system's Python and its packages, plus the package
# `ray` as it was built. Nothing is downloaded.
#
#   tools/venv.sh BUILD_DIRECTORY PYTHON
set -eu
build=$(cd "$1" && pwd)
python=$2
source=$(cd "$(dirname "$0")/.." && pwd)
venv=$build/venv

# An environment made by another interpreter, or in a tree that was moved, is made anew.
is_there='import sys; sys.exit(sys.argv[1] != sys.prefix)'
if ! "$venv/bin/python" -c "$is_there" "$venv" 2>/dev/null; then
    rm -rf "$venv"
    "$python" -m venv --system-site-packages --without-pip "$venv"
fi
site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
echo "$build/python" > "$site/ray-c.pth"

# build/python/ray: the extension is built there; the Python files are links to the source, so that
# an edit counts at once.
if [ -d "$source/python/ray" ]; then
    mkdir -p "$build/python/ray"
    find "$build/python/ray" -xtype l -delete
    for path in "$source"/python/ray/*; do
        link=$build/python/ray/$(basename "$path")
        case $path in */__pycache__) continue ;; esac
        [ -e "$link" ] || ln -s "$path" "$link"
    done
fi
# Compiled ahead, since environments that forbid writing bytecode would compile at every start.
if [ -d "$source/python/ray" ]; then
    "$venv/bin/python" -m compileall -q "$source/python/ray" || true
fi
if [ -x "$build/bin/ray" ]; then
    ln -sf ../../bin/ray "$venv/bin/ray"
fi
