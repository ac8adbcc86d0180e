"""Run Trino SQL on the lake: on the Trino server that the settings name, else inside this process.

There DuckDB reads the files of the pinned snapshots where they lie.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
from pyiceberg.expressions import BooleanExpression

from lakehouse.errors import SqlError
from lakehouse.settings import Settings
from lakehouse.sql import server
from lakehouse.sql.bind import ScanSource, bind
from lakehouse.sql.names import Lake, Pin
from lakehouse.sql.prune import drop_unused, push_filters, scan_filter
from lakehouse.sql.scan import ScanPlan, create_scan
from lakehouse.sql.translate import translate


@dataclass(frozen=True)
class Explanation:
    """How a query would run: the SQL that the engine gets, what each table reference opens (embedded), the plan."""

    engine_sql: str
    scans: tuple[ScanPlan, ...]
    plan: str


@dataclass(frozen=True)
class _Program:
    sql: str
    scans: tuple[tuple[ScanSource, BooleanExpression], ...]


def query(settings: Settings, sql: str, *, snapshot: int | None = None, tag: str | None = None) -> pa.Table:
    """Rows of one Trino query, all in memory; `stream` gives them batch by batch.

    `snapshot` pins the table that has this snapshot id, `tag` every table of the query. Raises SqlError for an unknown
    name and for a construct that is not carried over, TableMissingError for a snapshot or tag that is gone, ServerError
    for a Trino that is down or busy.
    """
    with stream(settings, sql, snapshot=snapshot, tag=tag) as reader:
        return reader.read_all()


@contextmanager
def stream(
    settings: Settings, sql: str, *, snapshot: int | None = None, tag: str | None = None, batch_rows: int = 65_536
) -> Iterator[pa.RecordBatchReader]:
    """The rows as a reader of Arrow batches, for results larger than memory."""
    pin = _pin(snapshot, tag)
    if settings.trino.uri:
        with server.stream(settings, sql, pin, batch_rows) as rows:
            yield rows
        return
    program = _compile(settings, sql, pin)
    with _connection() as connection, _engine_errors():
        for source, row_filter in program.scans:
            create_scan(connection, source, row_filter)
        yield connection.sql(program.sql).to_arrow_reader(batch_rows)


def explain(settings: Settings, sql: str, *, snapshot: int | None = None, tag: str | None = None) -> Explanation:
    """How the query would run, without running it."""
    pin = _pin(snapshot, tag)
    if settings.trino.uri:
        sent, plan = server.explain(settings, sql, pin)
        return Explanation(sent, (), plan)
    program = _compile(settings, sql, pin)
    with _connection() as connection, _engine_errors():
        plans = tuple(create_scan(connection, source, row_filter) for source, row_filter in program.scans)
        rows = connection.execute(f"EXPLAIN {program.sql}").fetchall()
    return Explanation(program.sql, plans, "\n".join(row[-1] for row in rows))


def names(settings: Settings) -> list[str]:
    """Full names of every table and view that a query can use."""
    return server.names(settings) if settings.trino.uri else Lake.open(settings).names()


def _pin(snapshot: int | None, tag: str | None) -> Pin:
    if snapshot is not None and tag is not None:
        raise SqlError("give a snapshot or a tag, not both")
    return Pin(snapshot, tag)


def _compile(settings: Settings, sql: str, pin: Pin) -> _Program:
    bound = bind(sql, Lake.open(settings), pin)
    drop_unused(bound.tree)
    push_filters(bound.tree)
    filters = [(s, scan_filter(bound.tree, s.name, s.schema)) for s in bound.scans.values()]
    return _Program(translate(bound.tree).sql("duckdb", identify=True), tuple(filters))


@contextmanager
def _connection() -> Iterator[duckdb.DuckDBPyConnection]:
    # Nothing is fetched from the network: what DuckDB's wheel holds is all that is used.
    config: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
    }
    with tempfile.TemporaryDirectory(prefix="reqlake-sql-") as folder:
        connection = duckdb.connect(":memory:", config=config | {"temp_directory": str(Path(folder))})
        try:
            connection.execute("SET TimeZone = 'UTC'")
            yield connection
        finally:
            connection.close()


@contextmanager
def _engine_errors() -> Iterator[None]:
    try:
        yield
    except (duckdb.Error, pa.ArrowException) as error:
        text = str(error).strip().partition("\n\nLINE")[0].splitlines()
        raise SqlError(f"the query failed: {text[0] if text else error}") from error
