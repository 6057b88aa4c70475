#!/usr/bin/env bash
# Fuzzes the kernel-side parsers in user space: fuzz.sh [SECONDS per parser, default 60]. Needs clang-14.
set -euo pipefail
cd "$(dirname "$0")/kernel"
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
for harness in *_harness.c; do
    name=${harness%.c}
    clang-14 -g -O1 -DFUZZ -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all "$harness" -o "$out/$name"
    mkdir "$out/$name.corpus"
    echo "== $name"
    (cd "$out" && "./$name" -max_total_time="${1:-60}" -max_len=4096 -print_final_stats=1 "$name.corpus")
done
