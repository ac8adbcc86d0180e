"""SQL on a real Trino and on DuckDB: the request table beside flat tables of the same impressions, sorted and not.

The local stack runs for the benchmark (Postgres, SeaweedFS, Trino on loopback); both engines read the same S3 lake,
warm, in interleaved rounds. Bytes are Trino's `physicalInputBytes`, what its readers took from storage; beside them
stands the compressed size of the columns that the query needs, from the files' footers. Trino reads more: each row
group is a split and reads the footer again, and gaps of less than 1 MB between needed columns are read too. Of a column
chunk over 8 MB it seems to count the first 8 MB alone, so flat unsorted tables read more than it says. A point look-up
counts files by Trino's metric `dataFiles`.

Two pieces, where one is too long: `--folder F --only-make` writes the tables, the next call with `--folder F` measures.
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow.parquet as pq
import trino
from pyiceberg.table import Table

from benchmarks.report import arguments, machine, publish
from benchmarks.sql_data import MANY, REQUESTS, SORTED, UNSORTED, make, spec_of
from benchmarks.synthetic import Shape
from lakehouse import sql
from lakehouse.catalog import open_catalog
from lakehouse.settings import Settings, load_settings
from lakehouse.stack.control import running_stack
from lakehouse.stack.state import Stack
from lakehouse.views import view_sql

LABELS = "sql_impressions_labels"
LAYOUTS = {"request": REQUESTS, "flat sorted": SORTED, "flat unsorted": UNSORTED}
USER = "SELECT country, avg(cardinality(history_item_id)) AS events FROM {} GROUP BY 1 ORDER BY 1"
CTR = "SELECT item_id, count(*) AS shown, avg(click) AS ctr FROM {} GROUP BY 1 ORDER BY shown DESC, item_id LIMIT 20"
NARROW = "SELECT country, hour, {} AS requests FROM {} GROUP BY 1, 2 ORDER BY 1, 2"
DISTINCT = "count(DISTINCT request_id)"
QUERIES: dict[tuple[str, str], str] = {
    **{("history length by country", layout): USER.format(table) for layout, table in LAYOUTS.items()},
    ("CTR by item", "request"): CTR.format(LABELS),
    ("CTR by item", "flat sorted"): CTR.format(SORTED),
    ("requests by hour", "request"): NARROW.format("count(*)", REQUESTS),
    ("requests by hour", "flat sorted"): NARROW.format(DISTINCT, SORTED),
}
NEEDED = {
    "history length by country": ("country", "history_item_id"),
    "CTR by item": ("item_id", "click"),
    "requests by hour": ("country", "hour", "request_id"),
}
LOOKED_UP = (3, 15, 42, 77, 99)  # user ids
Answer = list[tuple[Any, ...]]


def on_trino(stack: Stack, query: str, user: str = "analyst", catalog: str = "ro") -> tuple[Answer, dict[str, Any]]:
    """Rows and Trino's own statistics of the query."""
    port = stack.ports["trino"]
    options = {"host": "127.0.0.1", "port": port, "user": user, "catalog": catalog, "schema": "bench"}
    with closing(trino.dbapi.connect(**options)) as connection:
        cursor = connection.cursor()
        cursor.execute(query)
        rows = [tuple(row) for row in cursor.fetchall()]
        return rows, cursor.stats


def on_duckdb(settings: Settings, query: str) -> Answer:
    """Rows from the embedded engine."""
    return list(zip(*(column.to_pylist() for column in sql.query(settings, query).columns), strict=True))


def measure(stack: Stack, settings: Settings, rounds: int) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Rows and ratios of the tables that `make` wrote."""
    text = view_sql(spec_of(), LABELS, catalog="lake")
    on_trino(stack, f"CREATE OR REPLACE VIEW lake.bench.{LABELS} SECURITY DEFINER AS {text}", "reqlake", "lake")
    engines: dict[str, Callable[[str], Any]] = {
        "Trino": lambda query: on_trino(stack, query),
        "DuckDB": lambda query: (on_duckdb(settings, query), {}),
    }
    seconds: dict[tuple[str, str, str], list[float]] = {}
    read: dict[tuple[str, str], int] = {}
    answers: dict[str, Answer] = {}
    for i in range(rounds + 1):
        for (name, layout), query in QUERIES.items():
            for engine, ask in engines.items():
                if layout == "flat unsorted" and (engine, i) != ("Trino", rounds):
                    continue  # it is there for its bytes
                started = time.perf_counter()
                rows, stats = ask(query)
                took = time.perf_counter() - started
                print(f"round {i} {engine}, {layout}, {name}: {took:.2f} s", file=sys.stderr)
                if rows != answers.setdefault(name, rows):
                    raise AssertionError(f"{engine}, {layout}: another answer to {name}")
                if i:  # the first round warms both engines
                    seconds.setdefault((engine, name, layout), []).append(took)
                if stats:
                    read[(name, layout)] = stats["physicalInputBytes"]
    tables = {layout: open_catalog(settings).load_table(f"bench.{name}") for layout, name in LAYOUTS.items()}
    columns = {layout: column_bytes(table) for layout, table in tables.items()}
    shown = [
        {
            "engine": engine,
            "query": name,
            "layout": layout,
            "seconds": median(took),
            "read_mb": read[(name, layout)] / 1e6 if engine == "Trino" else None,
            "columns_mb": sum(columns[layout].get(c, 0) for c in NEEDED[name]) / 1e6,
            "files_mb": [round(size / 1e6, 1) for size in file_sizes(tables[layout])],
            "each_s": [round(value, 3) for value in took],
        }
        for (engine, name, layout), took in seconds.items()
    ]
    opened, total = point_lookup(stack, settings)
    return shown, ratios(seconds, read) | {"point_lookup_files": opened / total}


def ratios(seconds: dict[tuple[str, str, str], list[float]], read: dict[tuple[str, str], int]) -> dict[str, float]:
    """The bars: bytes and time of flat over request for a user's query, request over flat for an impression's."""
    took = {key: median(values) for key, values in seconds.items()}
    user, ctr = "history length by country", "CTR by item"
    out = {
        "trino_bytes_over_unsorted": read[(user, "flat unsorted")] / read[(user, "request")],
        "trino_bytes_over_sorted": read[(user, "flat sorted")] / read[(user, "request")],
    }
    for engine in ("Trino", "DuckDB"):
        label = engine.lower()
        out[f"{label}_user_query_time"] = took[(engine, user, "flat sorted")] / took[(engine, user, "request")]
        out[f"{label}_impression_query_time"] = took[(engine, ctr, "request")] / took[(engine, ctr, "flat sorted")]
    return out


def point_lookup(stack: Stack, settings: Settings) -> tuple[int, int]:
    """Files opened for one user, the most of a few users and of both engines, and files in all."""
    total = len(file_sizes(open_catalog(settings).load_table(f"bench.{MANY}")))
    opened = []
    for user in LOOKED_UP:
        query = f"SELECT request_id, history_item_id FROM {MANY} WHERE user_id = {user}"
        plan = "\n".join(row[0] for row in on_trino(stack, f"EXPLAIN ANALYZE VERBOSE {query}", "reqlake")[0])
        found = re.search(r"'dataFiles' = LongCount\{total=(\d+)\}", plan)
        if found is None:
            raise AssertionError(f"Trino's plan does not say how many files it opened:\n{plan}")
        opened += [int(found[1]), sql.explain(settings, query).scans[0].files]
    return max(opened), total


def file_sizes(table: Table) -> list[int]:
    """Bytes of each data file."""
    return [int(size) for size in table.inspect.files()["file_size_in_bytes"].to_pylist()]


def column_bytes(table: Table) -> dict[str, int]:
    """Compressed bytes of each top-level column, from the footers."""
    out: dict[str, int] = {}
    for path in table.inspect.files()["file_path"].to_pylist():
        with table.io.new_input(path).open() as stream:
            footer = pq.ParquetFile(stream).metadata
        for group in (footer.row_group(i) for i in range(footer.num_row_groups)):
            for chunk in (group.column(i) for i in range(footer.num_columns)):
                name = chunk.path_in_schema.split(".")[0]
                out[name] = out.get(name, 0) + chunk.total_compressed_size
    return out


def _pieces(parser: ArgumentParser) -> None:
    parser.add_argument("--folder", type=Path, help="keep stack and tables there, and use those that are there")
    parser.add_argument("--only-make", action="store_true", help="write the tables, measure nothing")


def main() -> None:
    """Run, print, write."""
    given = arguments("sql", __doc__ or "", _pieces)
    shape = Shape(requests=400, history=64) if given.quick else Shape(requests=18_000, history=512)
    rounds = 1 if given.quick else 3
    place = nullcontext(given.folder) if given.folder else tempfile.TemporaryDirectory(prefix="reqlake-bench-")
    with place as folder, running_stack(Path(folder) / "stack") as stack:
        settings = load_settings(home=Path(folder) / "home", **stack.settings(("postgres", "s3")))
        make(settings, shape)
        if given.only_make:
            return
        rows, bars = measure(stack, settings, rounds)
    publish(
        "sql",
        machine=machine("trino", "duckdb", "pyiceberg", "pyarrow"),
        settings={"shape": vars(shape), "rounds": rounds, "trino": "476", "queries": list(QUERIES.values())},
        rows=rows,
        ratios=bars,
        out=given.out,
    )


if __name__ == "__main__":
    main()
