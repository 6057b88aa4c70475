"""Which of N containers cross their limit within 15 minutes? Tapio and DuckDB on the same Parquet, in turns.

usage: screen.py TAPIO_BENCH [ROUNDS]     (build it with: cargo build --release --workspace --bins)

CPU time of each process, medians over the rounds and the spread. `screen` is the cheap question (a line through 90
points a series), `forecast` the full one for those that the screen lets through.
"""

import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

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


class Tapio:
    def __init__(self, store, sql):
        self.process = subprocess.Popen(
            [bench, "ask", store, sql], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
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


for series in (1_000, 10_000):
    with tempfile.TemporaryDirectory() as store:
        subprocess.run([bench, "make", store, str(series), str(POINTS)], check=True)
        size = sum(f.stat().st_size for f in pathlib.Path(store).rglob("*.parquet"))
        sides = {"tapio screen": Tapio(store, SCREEN), "duckdb regr_slope": Duck(store), "tapio forecast": Tapio(store, FORECAST)}
        cpu = {name: [] for name in sides}
        rows = {}
        for side in sides.values():
            side()
        for _ in range(rounds):
            for name, side in sides.items():
                ms, rows[name] = side()
                cpu[name].append(ms)
        base = statistics.median(cpu["duckdb regr_slope"])
        print(f"{series} series x {POINTS} points, {size} bytes of Parquet, {rounds} rounds in turns")
        for name, ms in cpu.items():
            median = statistics.median(ms)
            print(f"  {name:18} {median:8.1f} ms CPU [{min(ms):.1f} .. {max(ms):.1f}]  "
                  f"{median / base:5.2f} x duckdb  {rows[name]} rows")
        for side in sides.values():
            if isinstance(side, Tapio):
                side.process.stdin.close()
                side.process.wait()
