#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Which tests failed in the output of a run, and what each of them said: for the end of a log of
# which only the end is looked at. Of pytest, whose output ends with that already, only the names.
#
#   tools/failures.sh LOG
set -eu

# CTest prints a line for each test that begins or ends, and below that of one which failed all that
# it said. More than the last lines of it only hides the others.
awk '
    function finish(   i, from) {
        if (title == "")
            return
        print "--- " title
        from = count > 60 ? count - 60 : 0
        if (from > 0)
            print "(" from " lines before these)"
        for (i = from; i < count; i++)
            print "    " said[i]
        title = ""
    }
    / +Start +[0-9]+: / || /^ *([0-9]+\/[0-9]+)? +Test +#[0-9]+: / || /^[0-9]+% tests passed/ {
        finish()
    }
    /^ *([0-9]+\/[0-9]+)? +Test +#[0-9]+: .*\*\*\*/ && !/\*\*\*Skipped/ {
        title = $0
        sub(/^ *([0-9]+\/[0-9]+)? +Test +#[0-9]+: /, "", title)
        sub(/ \.*\*\*\*/, ": ", title)
        count = 0
        next
    }
    title != "" { said[count++] = $0 }
    /^(FAILED|ERROR) [^ ]+\.py/ { print "--- " $0 }
    END { finish() }
' "$1"
