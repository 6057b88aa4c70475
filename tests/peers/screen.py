"""Which of N containers cross their limit within 15 minutes? Tapio and DuckDB on the same Parquet, Tapio and Prometheus
on rows that came tick by tick and are in memory; in turns.

In memory each round is one tick later than the one before, and the question is about the 15 minutes before it, so that
nobody can answer twice from the same rows. `pattern's screen` is what the pattern memory_leak_oom asks of every series.

usage: screen.py TAPIO_BENCH [ROUNDS]     (build it with: cargo build --release --workspace --bins)

CPU time of each process, medians over the rounds and the spread. `screen` is the cheap question (a line through 90
points a series), `forecast` the full one for those that the screen lets through. Prometheus is left out where there is none
(Debian: apt-get install prometheus).
"""

import json
import pathlib
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

import duckdb

bench, rounds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 15
POINTS = 90
END_US = 1_795_392_000_000_000 + (POINTS - 1) * 10_000_000
AS_OF = f"arrow_cast({END_US}, 'Timestamp(Microsecond, Some(\"UTC\"))')"
USED = "memory_limit_bytes - memory_headroom_bytes"

SCREEN = f"""SELECT series_id FROM (
    SELECT series_id, tapio_linear_crossing(ts, {USED}, memory_limit_bytes, {AS_OF}) AS s
    FROM resources GROUP BY series_id) WHERE s <= 900"""
FORECAST = f"""SELECT series_id, tapio_forecast(series_id, ts, {USED}, memory_limit_bytes, {AS_OF}, 900.0) AS f
    FROM resources WHERE series_id IN ({SCREEN}) GROUP BY series_id"""
DUCK = f"""SELECT series_id FROM (
    SELECT series_id, regr_intercept(v, x) + 900 * regr_slope(v, x) AS ahead, max(memory_limit_bytes) AS l FROM (
        SELECT series_id, CAST({USED} AS DOUBLE) AS v, memory_limit_bytes,
               (epoch_us(ts) - {END_US}) / 1e6 AS x FROM read_parquet('{{files}}'))
    GROUP BY series_id) WHERE ahead >= l"""


# As patterns, which a server evaluates again and again. They differ in what they ask of a series.
IN_MEMORY = """-- name: bench
-- title: Crosses its limit
-- tables: resources
SELECT series_id, last_ts AS window_start, last_ts AS window_end, 'warning' AS severity, 1.0 AS score,
  'crosses its limit' AS title, '' AS detail, tapio_evidence(tapio_fact(NULL, last_ts, '')) AS evidence
FROM (SELECT series_id, {asked}, max(ts) AS last_ts FROM resources WHERE {rows} GROUP BY series_id)
WHERE {condition}"""
LINE = IN_MEMORY.format(
    asked=f"tapio_linear_crossing(ts, {USED}, memory_limit_bytes, NULL) AS s",
    rows="ts > $as_of - INTERVAL '15 minutes'",
    condition="s + extract(epoch FROM last_ts) - extract(epoch FROM $as_of) <= 900")
PATTERN = IN_MEMORY.format(
    asked=f"""tapio_last(ts, {USED}, memory_limit_bytes) AS newest, tapio_trend(ts, {USED}) AS trend,
      tapio_trend(ts, {USED}) FILTER (WHERE ts > $as_of - INTERVAL '1 minute') AS recent_trend""",
    rows="""ts > tapio_ago($as_of, 3600.0) AND memory_limit_bytes IS NOT NULL
      AND memory_headroom_bytes IS NOT NULL""",
    condition="""newest['c1'] >= 0.8 * newest['c2'] OR newest['c1']
      + 4 * 900.0 * greatest(coalesce(trend, 0.0), coalesce(recent_trend, 0.0), 0.0) >= newest['c2']""")


class Tapio:
    def __init__(self, *arguments):
        self.process = subprocess.Popen(
            [bench, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __call__(self):
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        cpu, rows = self.process.stdout.readline().split()
        return float(cpu), int(rows)


class Duck:
    def __init__(self, store):
        self.connection = duckdb.connect()
        self.connection.execute("SET threads = 2; SET TimeZone = 'UTC'; SET parquet_metadata_cache = true")
        self.sql = DUCK.format(files=f"{store}/resources/*/*.parquet")

    def __call__(self):
        before = time.process_time()
        rows = self.connection.sql(self.sql).to_arrow_table().num_rows
        return (time.process_time() - before) * 1e3, rows


def varint(n):
    out = b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


def field(number, payload):
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def snappy(data):
    """Snappy's block format with literals only: valid, and not smaller."""
    chunks = [data[i : i + 65536] for i in range(0, len(data), 65536)]
    return varint(len(data)) + b"".join(b"\xf4" + struct.pack("<H", len(c) - 1) + c for c in chunks)


class Prometheus:
    """A server of its own that gets the rows of the store by remote write."""

    QUERY = "predict_linear(used[15m], 900) >= 1073741824"

    def __init__(self, store, data):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{s.getsockname()[1]}"
        config = pathlib.Path(data, "prometheus.yml")
        config.write_text("global: {}\n")
        self.process = subprocess.Popen(
            ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={data}/tsdb",
             f"--web.listen-address={self.url[7:]}", "--web.enable-remote-write-receiver", "--log.level=error"]
        )
        deadline = time.monotonic() + 30
        while True:
            try:
                urllib.request.urlopen(f"{self.url}/-/ready").read()
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        self.end = END_US / 1e6
        rows = duckdb.connect().sql(
            f"SELECT series_id, list({USED} ORDER BY ts), list(epoch_us(ts) // 1000 ORDER BY ts) "
            f"FROM read_parquet('{store}/resources/*/*.parquet') GROUP BY series_id").fetchall()
        for first in range(0, len(rows), 500):
            request = b""
            for series, used, at in rows[first : first + 500]:
                labels = [("__name__", "used"), ("container", str(series))]
                message = b"".join(field(1, field(1, k.encode()) + field(2, v.encode())) for k, v in labels)
                for value, ts in zip(used, at):
                    message += field(2, b"\x09" + struct.pack("<d", value) + b"\x10" + varint(int(ts)))
                request += field(1, message)
            headers = {"Content-Encoding": "snappy", "Content-Type": "application/x-protobuf",
                       "X-Prometheus-Remote-Write-Version": "0.1.0"}
            urllib.request.urlopen(
                urllib.request.Request(f"{self.url}/api/v1/write", snappy(request), headers)).read()

    def cpu_ms(self):
        tasks = pathlib.Path(f"/proc/{self.process.pid}/task").iterdir()
        return sum(int((t / "schedstat").read_text().split()[0]) for t in tasks) / 1e6

    def __call__(self):
        ask = urllib.parse.urlencode({"query": self.QUERY, "time": self.end})
        self.end += 10
        before = self.cpu_ms()
        answer = urllib.request.urlopen(f"{self.url}/api/v1/query?{ask}").read()
        return self.cpu_ms() - before, len(json.loads(answer)["data"]["result"])

    def stop(self):
        self.process.terminate()
        self.process.wait()


def compare(base, sides):
    """Medians of CPU time in turns, beside that of `base`."""
    cpu = {name: [] for name in sides}
    rows = {}
    for side in sides.values():
        side()
    for _ in range(rounds):
        for name, side in sides.items():
            ms, rows[name] = side()
            cpu[name].append(ms)
    against = statistics.median(cpu[base])
    for name, ms in cpu.items():
        median = statistics.median(ms)
        print(f"  {name:26} {median:8.1f} ms CPU [{min(ms):.1f} .. {max(ms):.1f}]  "
              f"{median / against:5.2f} x {base}  {rows[name]} rows", flush=True)
    for side in sides.values():
        if isinstance(side, Tapio):
            side.process.stdin.close()
            side.process.wait()


for series in (1_000, 10_000):
    with tempfile.TemporaryDirectory() as store, tempfile.TemporaryDirectory() as other:
        subprocess.run([bench, "make", store, str(series), str(POINTS)], check=True)
        size = sum(f.stat().st_size for f in pathlib.Path(store).rglob("*.parquet"))
        print(f"{series} series x {POINTS} points, {size} bytes of Parquet, {rounds} rounds in turns")
        compare("duckdb regr_slope", {
            "tapio screen": Tapio("ask", store, SCREEN), "duckdb regr_slope": Duck(store),
            "tapio forecast": Tapio("ask", store, FORECAST)})
        if not shutil.which("prometheus"):
            print("  no prometheus here: not compared")
            continue
        later = f"{other}/later"
        subprocess.run([bench, "make", later, str(series), str(POINTS + 1 + rounds)], check=True)
        prometheus = Prometheus(later, other)
        try:
            compare("prometheus predict_linear", {
                "tapio screen, hot rows": Tapio("hot", f"{other}/screen", str(series), str(POINTS), LINE),
                "prometheus predict_linear": prometheus,
                "pattern's screen": Tapio("hot", f"{other}/pattern", str(series), str(POINTS), PATTERN)})
        finally:
            prometheus.stop()
