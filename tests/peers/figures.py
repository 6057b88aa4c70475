"""The figures of a running server: what it costs and how fast it answers. Needs root and a writable memory cgroup.

usage: figures.py FOLDER_OF_BINARIES [CGROUPS] [SECONDS] [TAPIO-SERVER-FLAG ...]     (cargo build --release --workspace --bins)

Prints CPU of one core and RSS of tapio-server with CGROUPS cgroups (a sleeping process in each), wall time of `tapio check`
against it, and the time from a kernel's OOM kill until a query returns it.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

binaries = pathlib.Path(sys.argv[1])
cgroups = int(sys.argv[2]) if len(sys.argv) > 2 else 200
seconds = int(sys.argv[3]) if len(sys.argv) > 3 else 60
server_flags = sys.argv[4:]
root = pathlib.Path("/sys/fs/cgroup/memory")
limit_file = "memory.limit_in_bytes"
if not (root / limit_file).exists():
    root, limit_file = pathlib.Path("/sys/fs/cgroup"), "memory.max"
base = root / f"tapio-figures-{os.getpid()}"
ticks = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / ticks


def rss_mib(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return float("nan")


def cage(path, limit):
    path.mkdir(parents=True)
    (path / limit_file).write_text(str(limit))
    return path


def run_in(path, *command):
    return subprocess.Popen(["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(path / "cgroup.procs"), *command])


def measure(pid, what):
    before, start = cpu_seconds(pid), time.monotonic()
    time.sleep(seconds)
    share = (cpu_seconds(pid) - before) / (time.monotonic() - start)
    print(f"{what}: {share * 100:.2f} % of a core over {seconds} s, {rss_mib(pid):.0f} MiB RSS", flush=True)


with tempfile.TemporaryDirectory() as folder:
    address = pathlib.Path(folder) / "address"
    server = subprocess.Popen(
        [binaries / "tapio-server", "--listen", "127.0.0.1:0", "--addr-file", address,
         "--store", f"{folder}/store", "--wal-dir", f"{folder}/wal", *server_flags],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    inside = []
    try:
        while not address.exists() or not address.read_text().endswith("\n"):
            time.sleep(0.05)
        at = address.read_text().strip()

        def tapio(*args):
            start = time.perf_counter()
            out = subprocess.run([binaries / "tapio", *args, "--server", at, "-o", "json"], capture_output=True)
            return (time.perf_counter() - start) * 1e3, out.stdout

        measure(server.pid, "idle server")
        base.mkdir()
        for i in range(cgroups):
            inside.append(run_in(cage(base / f"c{i}", 256 << 20), "sleep", "3600"))
        time.sleep(5)
        measure(server.pid, f"server with {cgroups} cgroups")
        for target in (f"/{base.name}/c7", None):
            args = ["check"] + ([target] if target else [])
            tapio(*args)
            walls = [tapio(*args)[0] for _ in range(20)]
            print(f"tapio {' '.join(args)}: {statistics.median(walls):.1f} ms wall, median of 20 "
                  f"[{min(walls):.1f} .. {max(walls):.1f}]", flush=True)
        delays = []
        for i in range(5):
            path = cage(base / f"oom{i}", 16 << 20)
            time.sleep(2.0 + 0.17 * i)
            victim = run_in(path, sys.executable, "-c", "x = b'x' * (1 << 28)")
            victim.wait()
            killed = time.time()
            sql = f"SELECT count(*) AS n FROM events WHERE kind = 'oom.kill' AND cgroup = '/{base.name}/oom{i}'"
            while json.loads(tapio("sql", sql)[1])[0]["n"] == 0:
                if time.time() > killed + 10:
                    raise SystemExit("the kill never became an answer")
            delays.append(time.time() - killed)
            path.rmdir()
        print(f"kernel's kill to answer: {statistics.median(delays):.2f} s, median of 5 "
              f"[{min(delays):.2f} .. {max(delays):.2f}]")
    finally:
        for p in inside:
            p.kill()
            p.wait()
        server.terminate()
        server.wait()
        for path in sorted(base.rglob("*"), reverse=True):
            if path.is_dir():
                path.rmdir()
        if base.exists():
            base.rmdir()
