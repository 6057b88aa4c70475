#!/usr/bin/env bash
# Builds the kernel programs: programs/NAME.bpf.c -> objects/NAME.o. The same sources give the same bytes.
#
#   build-objects.sh          writes the objects
#   build-objects.sh --check  builds beside them and fails if a committed object differs from its source
#
# Needs clang-14, llvm-strip-14 and the headers of libbpf (apt-get install clang-14 llvm-14 libbpf-dev). Only whoever
# changes a program needs them: the objects are committed.
set -euo pipefail
cd "$(dirname "$0")"
case ${1:-} in
'') out=objects ;;
--check)
    out=$(mktemp -d)
    trap 'rm -rf "$out"' EXIT
    ;;
*)
    echo "usage: build-objects.sh [--check]" >&2
    exit 2
    ;;
esac
for tool in clang-14 llvm-strip-14; do
    command -v "$tool" >/dev/null || { echo "$tool is missing: apt-get install clang-14 llvm-14 libbpf-dev" >&2; exit 2; }
done
export LC_ALL=C
mkdir -p "$out"
status=0
for source in programs/*.bpf.c; do
    name=$(basename "$source" .bpf.c)
    # -mcpu=v3: atomic exchange and 32-bit arithmetic, known to every kernel since 5.12.
    clang-14 -target bpf -mcpu=v3 -g -O2 -Wall -Werror -fdebug-compilation-dir=. -I/usr/include/x86_64-linux-gnu \
        -c "$source" -o "$out/$name.o"
    # The BTF stays, the DWARF, which nobody reads, goes.
    llvm-strip-14 --strip-debug "$out/$name.o"
    if [ "$out" != objects ] && ! cmp -s "$out/$name.o" "objects/$name.o"; then
        echo "objects/$name.o is not what $source gives: run ebpf/build-objects.sh and commit it" >&2
        status=1
    fi
done
for object in objects/*.o; do
    name=$(basename "$object" .o)
    if [ ! -e "programs/$name.bpf.c" ]; then
        echo "$object has no source programs/$name.bpf.c: remove it" >&2
        status=1
    fi
done
exit $status
