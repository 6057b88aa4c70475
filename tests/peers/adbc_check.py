#!/usr/bin/env python3
"""Checks a running tapio-server with clients that are not ours: ADBC, pyarrow, polars, pandas.

    python -m venv venv && venv/bin/pip install adbc-driver-flightsql adbc-driver-manager pyarrow polars pandas
    venv/bin/python tests/peers/adbc_check.py grpc://localhost:9090 [--table NAME] [--user U --password P]

Prints one line per check; the exit code is 1 if one failed. Without --table the first table with rows is taken.
"""

import argparse
import datetime
import sys

import adbc_driver_flightsql.dbapi as flightsql
import adbc_driver_manager
from adbc_driver_flightsql import ConnectionOptions

failed = []


def check(name, run):
    """Runs one check and prints what it found."""
    try:
        print(f"ok    {name}: {run()}", flush=True)
    except Exception as error:  # every kind of failure of a driver counts
        failed.append(name)
        print(f"FAIL  {name}: {type(error).__name__}: {str(error)[:400]}", flush=True)


def need(condition, message):
    if not condition:
        raise AssertionError(message)


def refused(run, *words):
    """The error of `run`, which must come and contain all `words`."""
    try:
        run()
    except adbc_driver_manager.Error as error:
        text = str(error)
        for word in words:
            need(word in text, f"{word!r} not in: {text}")
        return text.splitlines()[0][:160]
    raise AssertionError("no error came")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("uri")
    parser.add_argument("--table")
    parser.add_argument("--user")
    parser.add_argument("--password", default="")
    args = parser.parse_args()

    options = {}
    if args.user:
        options = {"username": args.user, "password": args.password}
        check("no credentials", lambda: refused(
            lambda: flightsql.connect(args.uri, autocommit=True).cursor().execute("select 1"), "credentials"))
        wrong = dict(options, password=args.password + "x")
        check("wrong password", lambda: refused(
            lambda: flightsql.connect(args.uri, db_kwargs=wrong, autocommit=True), "credentials"))

    connection = flightsql.connect(args.uri, db_kwargs=options, autocommit=True)

    def query(sql, parameters=None):
        with connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return cursor.fetch_arrow_table()

    def objects(**filters):
        listed = connection.adbc_get_objects(**filters).read_all().to_pylist()
        return [
            table
            for catalog in listed
            for schema in catalog["catalog_db_schemas"] or []
            if schema["db_schema_name"] != "information_schema"
            for table in schema["db_schema_tables"] or []
        ]

    def value(sql, parameters=None):
        return query(sql, parameters).column(0)[0].as_py()

    def info():
        found = connection.adbc_get_info()
        need(found["vendor_name"] == "Tapio", found)
        return f"{found['vendor_name']} {found['vendor_version']}"

    check("server info", info)
    check("select", lambda: query("select 1 as a, 'x' as b").to_pylist())
    check("empty result", lambda: query("select 1 as a where false").num_rows)

    def same(expected, sql, parameters):
        found = value(sql, parameters)
        need(found == expected, f"{found!r} instead of {expected!r}")
        return found

    time = datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc)
    check("parameter $1", lambda: same(42, "select column1 + $1 from (values (1))", (41,)))
    check("parameters ?", lambda: same("b", "select column2 from (values (1,'a'),(2,'b')) where column1 > ? and column2 <> ?", (1, "a")))
    check("text parameter stays text", lambda: same(0, "select count(*) from (values ('a')) where column1 = $1", ("x' or '1'='1",)))
    check("time parameter", lambda: same(1, "select count(*) from (values (timestamp '2026-01-03T00:00:00Z')) where column1 > $1", (time,)))
    check("parameter in limit", lambda: query("select * from (values (1),(2),(3)) limit $1", (2,)).num_rows)
    check("list, struct, map", lambda: query(
        "select [1, 2] l, named_struct('a', 1) s, map(['k'], ['v']) m, arrow_cast('d', 'Dictionary(Int32, Utf8)') d").to_pylist())

    check("table types", lambda: connection.adbc_get_table_types())
    names = []

    def tables():
        names.extend(table["table_name"] for table in objects(depth="tables"))
        need(names, "no table is listed")
        return names

    check("tables", tables)
    table = args.table
    for name in names:
        if not table and value(f'select count(*) from "{name}"') > 0:
            table = name
    if table:
        def columns():
            listed = objects(depth="all", table_name_filter=table)
            found = [column["column_name"] for column in listed[0]["table_columns"]]
            selected = query(f'select * from "{table}" limit 3')
            need(found == selected.schema.names, f"{found} listed, {selected.schema.names} selected")
            need(connection.adbc_get_table_schema(table) == selected.schema, "get_table_schema differs from select")
            return found

        def polars_rows():
            import polars
            return polars.read_database(f'select * from "{table}" limit 1000', connection).shape

        def pandas_rows():
            import pandas
            return pandas.read_sql(f'select * from "{table}" limit 1000', connection).shape

        def batches():
            with connection.cursor() as cursor:
                cursor.execute(f'select * from "{table}"')
                rows = sum(batch.num_rows for batch in cursor.fetch_record_batch())
            need(rows == value(f'select count(*) from "{table}"'), rows)
            return rows

        check(f"columns of {table}", columns)
        check("all rows as a stream", batches)
        check("polars", polars_rows)
        check("pandas", pandas_rows)
        check("typo in a table", lambda: refused(lambda: query(f'select * from "{table}x"'), "not found", "Line: 1", "did you mean"))

    def as_of():
        header = ConnectionOptions.RPC_CALL_HEADER_PREFIX.value + "tapio-as-of"
        with flightsql.connect(args.uri, db_kwargs=options, conn_kwargs={header: "2026-01-02T00:00:00Z"}, autocommit=True) as other:
            with other.cursor() as cursor:
                cursor.execute("select 1")
                rows = cursor.fetch_arrow_table().num_rows
        with flightsql.connect(args.uri, db_kwargs=options, conn_kwargs={header: "soon"}, autocommit=True) as other:
            refused(lambda: other.cursor().execute("select 1"), "RFC 3339")
        return rows

    check("as_of header", as_of)
    check("syntax error with place", lambda: refused(lambda: query("select 1\nfrom )"), "Line: 2, Column: 6"))
    check("wrong column", lambda: refused(lambda: query("select nope"), "nope", "Line: 1"))
    check("missing parameter", lambda: refused(lambda: query("select column1 from (values (1)) where column1 = $1"), "$1"))
    check("create refused", lambda: refused(lambda: query("create table x as select 1"), "only queries"))
    check("insert refused", lambda: refused(lambda: connection.cursor().executescript("insert into x values (1)"), "only queries") if hasattr(connection.cursor(), "executescript") else refused(lambda: query("copy (select 1) to '/tmp/x.csv'"), "only queries"))
    connection.close()

    print(f"{len(failed)} failed" + (": " + ", ".join(failed) if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
