#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# After a run of the tests under a sanitizer: prints its reports and fails when there is one, else
# passes the tests' own exit status on. No report is what the leak check says of a thread that was
# killed (a test's SIGKILL) while the check read its registers.
#
#   tools/reports.sh DIRECTORY STATUS
set -u
directory=$1
status=$2
count=0
for report in "$directory"/*; do
    [ -f "$report" ] || continue
    if grep -qv 'Unable to get registers from thread' "$report"; then
        count=$((count + 1))
        echo "--- ${report##*/}"
        head -n 80 "$report"
    fi
done
echo "sanitizer: $count reports"
[ "$count" -eq 0 ] || exit 1
exit "$status"
