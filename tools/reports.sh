#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# After a run of the tests under a sanitizer: prints its reports and fails when there is one, else
# passes the tests' own exit status on.
#
#   tools/reports.sh DIRECTORY STATUS
set -u
directory=$1
status=$2
count=0
for report in "$directory"/*; do
    if [ -s "$report" ]; then
        count=$((count + 1))
        echo "--- ${report##*/}"
        head -n 80 "$report"
    fi
done
echo "sanitizer: $count reports"
[ "$count" -eq 0 ] || exit 1
exit "$status"
