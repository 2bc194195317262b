#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs every libFuzzer program of a build for an equal share of the given time, several at once.
# Each starts from tests/fuzz/corpus/<name> and keeps what it finds in the build; an input that
# breaks a target is left in <build>/artifacts, to be added to the corpus with the fix.
#
#   tools/fuzz.sh BUILD_DIRECTORY SECONDS JOBS
set -eu
build=$1
seconds=$2
jobs=$3
targets=$(find "$build/fuzz" -maxdepth 1 -type f -name 'fuzz_*' -perm -u+x | sort)
count=$(echo "$targets" | wc -l)
[ -n "$targets" ] || { echo "fuzz: no targets in $build/fuzz" >&2; exit 1; }
[ "$jobs" -le "$count" ] || jobs=$count
share=$((seconds * jobs / count))
[ "$share" -gt 0 ] || share=1
mkdir -p "$build/artifacts"
echo "fuzz: $count targets, $share s each, $jobs at once"

# One target: silent but for its last lines, all of its output when it fails.
one='
    build=$1; share=$2; target=$3; name=$(basename "$target")
    mkdir -p "$build/corpus/$name"
    seeds=tests/fuzz/corpus/$name
    [ -d "$seeds" ] || seeds=
    if "$target" -max_total_time="$share" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
            -artifact_prefix="$build/artifacts/$name-" "$build/corpus/$name" $seeds \
            >"$build/artifacts/$name.log" 2>&1; then
        runs=$(sed -n "s/^stat::number_of_executed_units: *//p" "$build/artifacts/$name.log")
        echo "fuzz: $name: $runs runs, nothing found"
    else
        cat "$build/artifacts/$name.log"
        echo "fuzz: $name failed; the input is in $build/artifacts"
        exit 1
    fi'
echo "$targets" | xargs -n 1 -P "$jobs" sh -c "$one" fuzz "$build" "$share"
