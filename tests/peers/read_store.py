"""Reads a Tapio store with engines that know nothing of Tapio: prints `ENGINE TABLE ROWS` and checks that they agree.

usage: read_store.py STORE
"""

import pathlib
import sys

import deltalake
import duckdb
import polars

store = pathlib.Path(sys.argv[1])
for table in sorted(p.name for p in store.iterdir() if (p / "_delta_log").is_dir()):
    path = str(store / table)
    delta = deltalake.DeltaTable(path)
    files = delta.file_uris()
    counts = {
        "deltalake": delta.to_pyarrow_dataset().count_rows(),
        "polars": polars.scan_delta(path).select(polars.len()).collect().item(),
        "duckdb": duckdb.sql(f"select count(*) from read_parquet({files!r})").fetchall()[0][0],
    }
    for engine, rows in counts.items():
        print(engine, table, rows)
    if len(set(counts.values())) != 1:
        sys.exit(f"{table}: the engines disagree: {counts}")
