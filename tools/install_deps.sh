#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs the Debian packages that are missing, and nothing else; says nothing when none is.
#
#   tools/install_deps.sh GROUP...      groups: build, test, lint
#   tools/install_deps.sh --list GROUP...   only prints the names of what is missing
#
# Root installs directly, others through sudo. RAY_SKIP_DEPS=1 leaves everything to the caller, for
# systems without Debian's packages.
set -eu

build="gcc libc6-dev make cmake ninja-build pkg-config
    libprotobuf-c-dev protobuf-c-compiler libsqlite3-dev libssl-dev
    python3 python3-dev python3-cloudpickle"
test="libcmocka-dev procps python3-numpy python3-pytest python3-pytest-timeout python3-setproctitle
    python3-joblib python3-sklearn python3-emcee"
lint="clang clang-14 clang-format-14 clang-tidy-14 libclang-rt-14-dev llvm-14 cppcheck g++
    binutils"

list_only=no
wanted=
for argument in "$@"; do
    case $argument in
        --list) list_only=yes ;;
        build) wanted="$wanted $build" ;;
        test) wanted="$wanted $test" ;;
        lint) wanted="$wanted $lint" ;;
        *) echo "install_deps: no group '$argument' (build, test, lint)" >&2; exit 2 ;;
    esac
done
[ -n "$wanted" ] || { echo "usage: tools/install_deps.sh [--list] build|test|lint..." >&2; exit 2; }
[ "${RAY_SKIP_DEPS:-}" != 1 ] || exit 0

if ! command -v dpkg-query >/dev/null 2>&1 || ! command -v apt-get >/dev/null 2>&1; then
    echo "install_deps: this system has no Debian packages. Install what corresponds to these," >&2
    echo "then run make with RAY_SKIP_DEPS=1:" >&2
    echo $wanted >&2
    exit 1
fi

# dpkg-query fails for names that it has never heard of, and prints the others all the same.
present=$(dpkg-query -W -f='${db:Status-Status} ${Package}\n' $wanted 2>/dev/null |
    sed -n 's/^installed //p') || true
missing=
for package in $wanted; do
    case "
$present
" in
        *"
$package
"*) ;;
        *) missing="$missing $package" ;;
    esac
done
[ -n "$missing" ] || exit 0
if [ "$list_only" = yes ]; then
    echo $missing
    exit 0
fi

as_root=
if [ "$(id -u)" != 0 ]; then
    if ! command -v sudo >/dev/null 2>&1; then
        echo "install_deps: packages are missing, and installing needs root. As root, run:" >&2
        echo "    apt-get update && apt-get install$missing" >&2
        exit 1
    fi
    as_root="sudo env"
fi

echo "installing:$missing"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt() {
    $as_root DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 "$@" \
        </dev/null >"$log" 2>&1
}
[ -n "$as_root" ] || as_root=env

# The lists may be absent (a fresh image) or old; they are fetched only when that shows.
if ! apt install -y --no-install-recommends $missing; then
    if ! { apt update && apt install -y --no-install-recommends $missing; }; then
        cat "$log" >&2
        echo "install_deps: apt-get could not install:$missing" >&2
        exit 1
    fi
fi
