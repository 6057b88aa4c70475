#!/usr/bin/env bash
# Makes the packs of this folder again, from processes that really run on this kernel. Needs root, Python 3
# and mkfs.ext4, for some of recordings/ Java and Node.js. Takes about seven minutes after the build; the long
# ones of recordings/ take fifty, and no more than twenty have run side by side on two cores.
# usage: datasets/record.sh [PACK ...]   (default: the fourteen packs of this folder; `recordings` is all of
# recordings/; an existing pack is replaced). Uses the tapio on the PATH, else builds one.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! command -v tapio >/dev/null || ! command -v tapio-workload >/dev/null; then
    cargo build -q --workspace --bins
    target=$(cargo metadata --format-version 1 --no-deps | python3 -c 'import json,sys; print(json.load(sys.stdin)["target_directory"])')
    export PATH="$target/debug:$PATH"
fi
here=$PWD/datasets
cd "$here"

pack() {  # NAME TAPIO-RECORD-ARGUMENT... -- COMMAND...
    local name=$1; shift
    rm -rf "${here:?}/$name"
    mkdir -p "$(dirname "$here/$name")"
    tapio record --out "$here/$name" "$@"
}

on_ext4() {  # NAME MKFS-ARGUMENTS WORKLOAD-ARGUMENT...: the workload writes to a small filesystem of its own
    local name=$1 options=$2 image dir=/tmp/tapio-${1##*/}; shift 2
    image=$(mktemp)
    truncate -s 128M "$image"
    # shellcheck disable=SC2086
    mkfs.ext4 -q -F $options "$image"
    mkdir "$dir"
    mount -o loop "$image" "$dir"
    pack "$name" --filesystem "$dir" --duration 4m -- tapio-workload "$@" path="$dir" base_mib=1 || true
    umount "$dir"
    rmdir "$dir"
    rm "$image"
}

with_clients() {  # NAME KEPT-BYTES TAPIO-ARGUMENT...: a server in the recording, its clients outside
    local name=$1 kept=$2 address; shift 2
    address=/tmp/tapio-${name##*/}.port
    rm -f "$address"
    python3 http_service.py ask "$address" 3600 &
    local clients=$!
    pack "$name" --kernel "$@" -- python3 http_service.py serve "$address" "$kept"
    wait "$clients" || true
    rm -f "$address"
}

one() {
    case $1 in
    # Incidents: the kernel ends them.
    oom-linear)             pack "$1" --memory-limit 256MiB -- tapio-workload linear rate_mib_s=1 ;;
    oom-accelerating)       pack "$1" --memory-limit 256MiB -- tapio-workload accelerating scale_mib=4.4 tau_s=60 ;;
    oom-gc-sawtooth)        pack "$1" --memory-limit 256MiB -- python3 gc.py 800 3600 ;;
    oom-after-limit-change) pack "$1" --memory-limit 384MiB --change-limit 120s=192MiB -- tapio-workload linear rate_mib_s=0.6 seed=3 ;;
    oom-http-route)         with_clients "$1" 49152 --memory-limit 192MiB ;;
    # Limits that are not memory.
    disk-full)              on_ext4 "$1" "" disk rate_mib_s=0.7 ;;
    inodes-spent)           on_ext4 "$1" "-N 2048" inodes rate_per_s=14 ;;
    fds-spent)              pack "$1" --duration 3m -- prlimit --nofile=1024:1024 tapio-workload fds rate_per_s=7 base_mib=1 ;;
    pids-spent)             pack "$1" --pids-limit 400 --duration 3m -- tapio-workload threads rate_per_s=3 base_mib=1 ;;
    # Not incidents: they look like one, at least for a while.
    http-no-leak)           with_clients "$1" 0 --memory-limit 192MiB --duration 4m ;;
    warmup-plateau)         pack "$1" --memory-limit 256MiB --duration 5m -- tapio-workload warmup plateau_mib=180 tau_s=50 ;;
    sawtooth-stable)        pack "$1" --memory-limit 64MiB --duration 5m -- python3 gc.py 0 3600 8192 ;;
    burst-then-release)     pack "$1" --memory-limit 256MiB --duration 4m -- tapio-workload burst burst_mib=110 at_s=90 up_s=10 hold_s=40 ;;
    quiet)                  pack "$1" --memory-limit 128MiB --duration 4m -- tapio-workload quiet wobble_mib=2 ;;
    *) again "$1" ;;
    esac
}

# The same kinds with other numbers, to score by.
again() {
    case $1 in
    recordings/oom-linear-1) pack "$1" --memory-limit 128MiB -- tapio-workload linear rate_mib_s=0.4 seed=11 ;;
    recordings/oom-linear-2) pack "$1" --memory-limit 512MiB -- tapio-workload linear rate_mib_s=1.9 seed=12 ;;
    recordings/oom-linear-3) pack "$1" --memory-limit 192MiB -- tapio-workload linear rate_mib_s=0.6 base_mib=60 seed=13 ;;
    recordings/oom-linear-4) pack "$1" --memory-limit 320MiB -- tapio-workload linear rate_mib_s=2.4 seed=14 ;;
    recordings/oom-accelerating-1) pack "$1" --memory-limit 512MiB -- tapio-workload accelerating scale_mib=6 tau_s=70 ;;
    recordings/oom-accelerating-2) pack "$1" --memory-limit 192MiB -- tapio-workload accelerating scale_mib=10 tau_s=90 ;;
    recordings/oom-accelerating-3) pack "$1" --memory-limit 128MiB -- tapio-workload accelerating scale_mib=2 tau_s=45 ;;
    recordings/oom-accelerating-4) pack "$1" --memory-limit 320MiB -- tapio-workload accelerating scale_mib=20 tau_s=110 base_mib=40 ;;
    recordings/oom-gc-sawtooth-1) pack "$1" --memory-limit 192MiB -- python3 gc.py 500 3600 ;;
    recordings/oom-gc-sawtooth-2) pack "$1" --memory-limit 320MiB -- python3 gc.py 1200 3600 8192 ;;
    recordings/oom-gc-sawtooth-3) pack "$1" --memory-limit 128MiB -- python3 gc.py 300 3600 2048 ;;
    recordings/oom-gc-sawtooth-4) pack "$1" --memory-limit 256MiB -- python3 gc.py 1500 3600 6144 ;;
    recordings/oom-after-limit-change-1) pack "$1" --memory-limit 256MiB --change-limit 100s=160MiB -- tapio-workload linear rate_mib_s=0.5 seed=21 ;;
    recordings/oom-after-limit-change-2) pack "$1" --memory-limit 512MiB --change-limit 90s=256MiB -- tapio-workload linear rate_mib_s=1.2 seed=22 ;;
    recordings/oom-after-limit-change-3) pack "$1" --memory-limit 128MiB --change-limit 60s=224MiB -- tapio-workload linear rate_mib_s=0.8 seed=23 ;;
    recordings/oom-after-limit-change-4) pack "$1" --memory-limit 320MiB --change-limit 150s=200MiB -- tapio-workload linear rate_mib_s=0.7 seed=24 ;;
    recordings/warmup-plateau-1) pack "$1" --memory-limit 128MiB --duration 5m -- tapio-workload warmup plateau_mib=90 tau_s=30 ;;
    recordings/warmup-plateau-2) pack "$1" --memory-limit 512MiB --duration 6m -- tapio-workload warmup plateau_mib=400 tau_s=80 ;;
    recordings/warmup-plateau-3) pack "$1" --memory-limit 256MiB --duration 4m -- tapio-workload warmup plateau_mib=120 tau_s=20 ;;
    recordings/warmup-plateau-4) pack "$1" --memory-limit 192MiB --duration 6m -- tapio-workload warmup plateau_mib=150 tau_s=100 ;;
    recordings/sawtooth-stable-1) pack "$1" --memory-limit 96MiB --duration 5m -- python3 gc.py 0 3600 12288 ;;
    recordings/sawtooth-stable-2) pack "$1" --memory-limit 48MiB --duration 5m -- python3 gc.py 0 3600 4096 ;;
    recordings/sawtooth-stable-3) pack "$1" --memory-limit 128MiB --duration 5m -- python3 gc.py 0 3600 16384 ;;
    recordings/sawtooth-stable-4) pack "$1" --memory-limit 64MiB --duration 5m -- python3 gc.py 0 3600 2048 ;;
    recordings/burst-then-release-1) pack "$1" --memory-limit 128MiB --duration 4m -- tapio-workload burst burst_mib=70 at_s=60 up_s=20 hold_s=30 ;;
    recordings/burst-then-release-2) pack "$1" --memory-limit 512MiB --duration 5m -- tapio-workload burst burst_mib=350 at_s=120 up_s=30 hold_s=60 ;;
    recordings/burst-then-release-3) pack "$1" --memory-limit 256MiB --duration 4m -- tapio-workload burst burst_mib=180 at_s=40 up_s=5 hold_s=20 ;;
    recordings/burst-then-release-4) pack "$1" --memory-limit 192MiB --duration 5m -- tapio-workload burst burst_mib=100 at_s=150 up_s=40 hold_s=20 ;;
    recordings/quiet-1) pack "$1" --memory-limit 64MiB --duration 4m -- tapio-workload quiet wobble_mib=1 seed=31 ;;
    recordings/quiet-2) pack "$1" --memory-limit 256MiB --duration 4m -- tapio-workload quiet wobble_mib=8 base_mib=100 seed=32 ;;
    recordings/quiet-3) pack "$1" --memory-limit 512MiB --duration 4m -- tapio-workload quiet wobble_mib=30 base_mib=300 seed=33 ;;
    recordings/quiet-4) pack "$1" --memory-limit 128MiB --duration 4m -- tapio-workload quiet wobble_mib=4 base_mib=70 seed=34 ;;
    recordings/disk-full-1) on_ext4 "$1" "" disk rate_mib_s=0.55 seed=41 ;;
    recordings/disk-full-2) on_ext4 "$1" "" disk rate_mib_s=1.2 seed=42 ;;
    recordings/disk-full-3) on_ext4 "$1" "-m 0" disk rate_mib_s=0.8 seed=43 ;;
    recordings/disk-full-4) on_ext4 "$1" "-m 10" disk rate_mib_s=0.6 seed=44 ;;
    recordings/inodes-spent-1) on_ext4 "$1" "-N 2048" inodes rate_per_s=10 seed=51 ;;
    recordings/inodes-spent-2) on_ext4 "$1" "-N 4096" inodes rate_per_s=25 seed=52 ;;
    recordings/inodes-spent-3) on_ext4 "$1" "-N 1024" inodes rate_per_s=8 seed=53 ;;
    recordings/inodes-spent-4) on_ext4 "$1" "-N 2048" inodes rate_per_s=18 seed=54 ;;
    recordings/fds-spent-1) pack "$1" --duration 4m -- prlimit --nofile=512:512 tapio-workload fds rate_per_s=3 base_mib=1 seed=61 ;;
    recordings/fds-spent-2) pack "$1" --duration 4m -- prlimit --nofile=2048:2048 tapio-workload fds rate_per_s=16 base_mib=1 seed=62 ;;
    recordings/fds-spent-3) pack "$1" --duration 4m -- prlimit --nofile=4096:4096 tapio-workload fds rate_per_s=25 base_mib=1 seed=63 ;;
    recordings/fds-spent-4) pack "$1" --duration 4m -- prlimit --nofile=1024:1024 tapio-workload fds rate_per_s=11 base_mib=1 seed=64 ;;
    recordings/pids-spent-1) pack "$1" --pids-limit 200 --duration 4m -- tapio-workload threads rate_per_s=1.2 base_mib=1 seed=71 ;;
    recordings/pids-spent-2) pack "$1" --pids-limit 800 --duration 4m -- tapio-workload threads rate_per_s=6 base_mib=1 seed=72 ;;
    recordings/pids-spent-3) pack "$1" --pids-limit 400 --duration 4m -- tapio-workload threads rate_per_s=2 base_mib=1 seed=73 ;;
    recordings/pids-spent-4) pack "$1" --pids-limit 1000 --duration 4m -- tapio-workload threads rate_per_s=5 base_mib=1 seed=74 ;;
    recordings/oom-http-route-1) with_clients "$1" 98304 --memory-limit 256MiB ;;
    recordings/oom-http-route-2) with_clients "$1" 32768 --memory-limit 128MiB ;;
    recordings/oom-http-route-3) with_clients "$1" 65536 --memory-limit 224MiB ;;
    recordings/oom-http-route-4) with_clients "$1" 24576 --memory-limit 96MiB ;;
    # Up to an hour, a sample every five seconds: longer than the horizon of a quarter of an hour.
    recordings/oom-linear-5) pack "$1" --every 5s --memory-limit 256MiB -- tapio-workload linear rate_mib_s=0.075 seed=15 ;;
    recordings/oom-accelerating-5) pack "$1" --every 5s --memory-limit 256MiB -- tapio-workload accelerating scale_mib=8 tau_s=900 ;;
    recordings/oom-gc-sawtooth-5) pack "$1" --every 5s --memory-limit 256MiB -- python3 gc.py 70 3600 ;;
    recordings/oom-after-limit-change-5) pack "$1" --every 5s --memory-limit 384MiB --change-limit 1500s=192MiB -- tapio-workload linear rate_mib_s=0.06 seed=25 ;;
    recordings/oom-jvm-1) pack "$1" --every 5s --memory-limit 320MiB -- java -Xmx1g -XX:+UseSerialGC Leak.java 90 2048 3600 ;;
    recordings/oom-jvm-2) pack "$1" --every 5s --memory-limit 384MiB -- java -Xmx1g -XX:+UseG1GC Leak.java 100 1024 3600 ;;
    recordings/oom-node-1) pack "$1" --every 5s --memory-limit 256MiB -- node --max-old-space-size=2000 leak.js 60 1024 ;;
    recordings/oom-node-2) pack "$1" --every 5s --memory-limit 384MiB -- node --max-old-space-size=2000 leak.js 150 4096 ;;
    recordings/quiet-5) pack "$1" --every 5s --memory-limit 128MiB --duration 50m -- tapio-workload quiet wobble_mib=6 base_mib=80 seed=35 ;;
    recordings/oom-teeth-1) pack "$1" --every 5s --memory-limit 64MiB -- python3 gc.py 0 3600 8192 ;; # its highest tooth
    recordings/warmup-plateau-5) pack "$1" --every 5s --memory-limit 256MiB --duration 50m -- tapio-workload warmup plateau_mib=180 tau_s=400 ;;
    recordings/cron-jobs-1) pack "$1" --every 5s --memory-limit 128MiB --duration 50m -- \
        sh -c 'while sleep 170; do timeout 25 tapio-workload linear rate_mib_s=3; done' ;;
    recordings/jvm-stable-1) pack "$1" --every 5s --memory-limit 256MiB --duration 50m -- java -Xmx96m -XX:+UseSerialGC Leak.java 0 2048 3600 ;;
    recordings/node-stable-1) pack "$1" --every 5s --memory-limit 192MiB --duration 50m -- node leak.js 0 2048 ;;
    recordings/page-cache-1) pack "$1" --every 5s --memory-limit 128MiB --duration 50m -- \
        sh -c 'while :; do find /usr -type f -size -4M | while read -r f; do cat "$f"; sleep 0.05; done; done >/dev/null' ;;
    recordings/http-no-leak-1) with_clients "$1" 0 --every 5s --memory-limit 96MiB --duration 50m ;;
    *) echo "record.sh: no pack is called $1" >&2; exit 2 ;;
    esac
}

[ $# -gt 0 ] || set -- oom-linear oom-accelerating oom-gc-sawtooth oom-after-limit-change \
    oom-http-route disk-full inodes-spent fds-spent pids-spent warmup-plateau sawtooth-stable burst-then-release quiet \
    http-no-leak
if [ "$*" = recordings ]; then
    mapfile -t again < <(grep -o '^    recordings/[a-z0-9-]*' record.sh)
    set -- "${again[@]##* }"
fi
pids=()
for name in "$@"; do one "$name" & pids+=($!); done
for pid in "${pids[@]}"; do wait "$pid"; done
