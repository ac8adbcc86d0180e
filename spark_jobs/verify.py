"""Verify: expand(table) + quarantine + counted duplicates are the raw rows, by order-free checksums, then by row.

Each impression has one 64-bit hash per column, of its key and the value (with null flags and list sizes, see
`fingerprint`). Sums of them per day and column agree exactly when the same values lie under the same keys; only where
they do not are rows looked for. The table's order, files and hashes play no part; ranks and versions are not compared,
`position` only where the raw log has it (else it has to count from 0 in each request).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pyiceberg.table import Table

from lakehouse.catalog import load_table, open_catalog, table_names
from lakehouse.errors import RawDataError
from lakehouse.ledger import REPLAYED, Ledger
from lakehouse.schema import as_in_table, open_request_table, table_spec
from lakehouse.settings import Settings
from lakehouse.spec import DatasetSpec
from lakehouse.upkeep.emptied import emptied_columns
from spark_jobs.guard import job
from spark_jobs.sources import TableRange, Unit, ingested
from spark_jobs.verify_report import Day, VerifyReport
from spark_jobs.verify_rows import find_differences
from spark_jobs.verify_sides import Sides, compare_requests

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

EXAMPLES = 20


def run(
    spark: SparkSession,
    settings: Settings,
    spec: DatasetSpec,
    raw: Sequence[str | Path] | TableRange,
    *,
    examples: int = EXAMPLES,
) -> VerifyReport:
    """Compare the request table with the raw files that it was made of, all of them; `examples` differences are shown.

    Of a table given in place of files the ranges are read again that were ingested. Raises RawDataError for files that
    were not ingested or that are not given, TableMissingError, FormatError.
    """
    started = time.perf_counter()
    with job(spark, settings):
        catalog = open_catalog(settings)
        table = open_request_table(catalog, spec, settings)
        spec = as_in_table(catalog, spec, settings)
        known = Ledger(catalog, spec, settings).batches()
        source, units = ingested(spark, settings, spec, raw, known)
        batches = _batches(known, units)
        name = spec.table("quarantine")
        kept = name in table_names(catalog, spec.namespace)
        quarantine = _pinned(spark, settings, load_table(catalog, name, settings)) if kept else None
        emptied = emptied_columns(table, table_spec(table))
        log = source.open(units)
        sides = Sides.of(spec, log, _pinned(spark, settings, table), quarantine, batches, emptied=emptied)
        try:
            return _compare(spec, table, sides, started, examples)
        finally:
            sides.release()


def _batches(known: dict[str, set[str]], units: Sequence[Unit]) -> list[str]:
    """The batches of these files or ranges. Raises RawDataError unless the table was made of exactly these."""
    given = {unit.member: unit for unit in units}
    # A replay's rows are those of files that are members already.
    members = {m for batch in known.values() for m in batch if not m.startswith(REPLAYED)}
    new = [file.name for member, file in given.items() if member not in members]
    if new:
        raise RawDataError(f"not in the table yet: {', '.join(sorted(new)[:5])}. Run `reqlake ingest` on them first")
    left_out = members - set(given)
    if left_out:
        raise RawDataError(
            f"the table was also made of {len(left_out)} files that were not given, or snapshots of a table: verify "
            f"compares with all raw rows, and with files of one format alone or one table alone"
        )
    return sorted(known)


def _pinned(spark: SparkSession, settings: Settings, table: Table) -> DataFrame:
    name = ".".join((settings.catalog.in_spark, *table.name()))
    snapshot = table.current_snapshot()
    if snapshot is None:
        return spark.table(name)
    return spark.read.option("versionAsOf", str(snapshot.snapshot_id)).table(name)


def _compare(spec: DatasetSpec, table: Table, sides: Sides, started: float, examples: int) -> VerifyReport:
    days = _days(sides)
    requests = compare_requests(spec, sides)
    wrong_days = [day.day for day in days if not day.agrees]
    found = find_differences(spec, sides, wrong_days, examples) if wrong_days else (0, ())
    snapshot = table.current_snapshot()
    return VerifyReport(
        dataset=spec.name,
        snapshot_id=snapshot.snapshot_id if snapshot else None,
        raw_rows=sides.log.rows,
        expanded_rows=sum(day.table_rows for day in days),
        quarantined_rows=sides.quarantined,
        duplicate_rows=sides.log.rows - sides.quarantined - sum(day.raw_rows for day in days),
        overruled_rows=sides.overruled,
        requests=requests.count,
        columns=tuple(sides.columns),
        days=days,
        request_faults=requests.faults,
        differing_rows=found[0],
        differences=found[1],
        seconds=time.perf_counter() - started,
    )


def _days(sides: Sides) -> tuple[Day, ...]:
    """Counts and checksums of both sides by day of the request."""
    from pyspark.sql import functions as F

    def sums(side: DataFrame) -> dict[str, tuple[int, ...]]:
        totals = [F.sum(F.col(f"k_{c}").cast("decimal(38,0)")).alias(c) for c in sides.columns]
        rows = side.groupBy("day").agg(F.count("*").alias("_n"), *totals).collect()
        return {str(r["day"]): (r["_n"], *(int(r[c]) for c in sides.columns)) for r in rows}

    raw, table = sums(sides.raw), sums(sides.table)
    nothing = (0,) * (len(sides.columns) + 1)
    days = []
    for day in sorted(raw.keys() | table.keys()):
        left, right = raw.get(day, nothing), table.get(day, nothing)
        differing = tuple(c for c, a, b in zip(sides.columns, left[1:], right[1:], strict=True) if a != b)
        days.append(Day(day, left[0], right[0], differing))
    return tuple(days)
