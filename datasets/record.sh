#!/usr/bin/env bash
# Makes the packs of this folder again, from processes that really run on this kernel. Needs root and Python 3; takes
# about five minutes after the build. usage: datasets/record.sh [PACK ...]   (default: all; an existing pack is replaced)
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build -q --workspace --bins
target=$(cargo metadata --format-version 1 --no-deps | python3 -c 'import json,sys; print(json.load(sys.stdin)["target_directory"])')
export PATH="$target/debug:$PATH"
here=$PWD/datasets
cd "$here"

pack() {  # NAME TAPIO-RECORD-ARGUMENT... -- COMMAND...
    local name=$1; shift
    rm -rf "${here:?}/$name"
    tapio record --out "$here/$name" "$@"
}

one() {
    case $1 in
    # Incidents: the kernel ends them.
    oom-linear)             pack "$1" --memory-limit 256MiB -- tapio-workload linear rate_mib_s=1 ;;
    oom-accelerating)       pack "$1" --memory-limit 256MiB -- tapio-workload accelerating scale_mib=4.4 tau_s=60 ;;
    oom-gc-sawtooth)        pack "$1" --memory-limit 256MiB -- python3 gc.py 800 3600 ;;
    oom-after-limit-change) pack "$1" --memory-limit 384MiB --change-limit 120s=192MiB -- tapio-workload linear rate_mib_s=0.6 seed=3 ;;
    # Not incidents: they look like one, at least for a while.
    warmup-plateau)         pack "$1" --memory-limit 256MiB --duration 5m -- tapio-workload warmup plateau_mib=180 tau_s=50 ;;
    sawtooth-stable)        pack "$1" --memory-limit 64MiB --duration 5m -- python3 gc.py 0 3600 8192 ;;
    burst-then-release)     pack "$1" --memory-limit 256MiB --duration 4m -- tapio-workload burst burst_mib=110 at_s=90 up_s=10 hold_s=40 ;;
    quiet)                  pack "$1" --memory-limit 128MiB --duration 4m -- tapio-workload quiet wobble_mib=2 ;;
    *) echo "record.sh: no pack is called $1" >&2; exit 2 ;;
    esac
}

[ $# -gt 0 ] || set -- oom-linear oom-accelerating oom-gc-sawtooth oom-after-limit-change \
    warmup-plateau sawtooth-stable burst-then-release quiet
pids=()
for name in "$@"; do one "$name" & pids+=($!); done
for pid in "${pids[@]}"; do wait "$pid"; done
