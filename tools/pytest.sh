#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs pytest over those test directories that hold tests; says so when none does.
#
#   tools/pytest.sh PYTHON [PYTEST_ARGUMENT...]
set -eu
cd "$(dirname "$0")/.."
python=$1
shift
directories=
for directory in tests/tools tests/python tests/cluster tests/chaos; do
    if [ -n "$(find "$directory" -name 'test_*.py' 2>/dev/null | head -n 1)" ]; then
        directories="$directories $directory"
    fi
done
if [ -z "$directories" ]; then
    echo "pytest: no tests in tests/tools, tests/python, tests/cluster, tests/chaos yet"
    exit 0
fi
exec "$python" -m pytest -q -p no:cacheprovider --timeout 300 $directories "$@"
