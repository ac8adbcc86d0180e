"""Retention per group of columns: their values leave partitions older than the spec keeps them; the rows stay.

    what is due (footers) → rewrite those partitions → look again: nothing is due → say so in the table

Sequences and lists become empty, other features null, or their default where null is bad data. Keys, labels and
`request_hash` stay, so that late impressions still find their request. Old snapshots and tags keep what they hold until
they expire or are dropped.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pyiceberg.table import Table

from lakehouse.catalog import catalog_errors, open_catalog
from lakehouse.lease import maintenance_lease
from lakehouse.schema import open_request_table, table_spec
from lakehouse.settings import Settings
from lakehouse.spec import Column, DatasetSpec
from lakehouse.spec.retention import replaced_by
from lakehouse.upkeep.emptied import EMPTIED, Due, due
from lakehouse.upkeep.health import partition_condition
from lakehouse.upkeep.state import TableState, UpkeepReport
from spark_jobs.compact import GROUP_PARTITIONS
from spark_jobs.guard import job
from spark_jobs.layout import order_writes
from spark_jobs.report import Progress

if TYPE_CHECKING:
    from pyspark.sql import Column as SparkColumn
    from pyspark.sql import SparkSession
    from pyspark.sql.types import DataType

JOB, ATTEMPTS = "reqlake.column-retention", 3


def run(
    session: Callable[[], SparkSession],
    settings: Settings,
    spec: DatasetSpec,
    *,
    dry_run: bool = False,
    now: datetime | None = None,
    progress: Progress = lambda _: None,
) -> UpkeepReport:
    """Empty what is due by the spec that the table carries. `session` is called where something is rewritten.

    Raises TableMissingError, LeaseError, CatalogError.
    """
    started, at = time.perf_counter(), now or datetime.now(UTC)
    catalog = open_catalog(settings)
    with maintenance_lease(catalog, spec, settings, "column retention") as lease:
        table = open_request_table(catalog, spec, settings)
        held = table_spec(table)
        state = before = TableState.of(table)
        first = found = due(table, held, at) if held.retention else Due({}, {}, 0, 0)
        for _ in range(ATTEMPTS):  # a writer may have brought late rows meanwhile
            if dry_run or not found.partitions:
                break
            _empty(session(), settings, table, found, progress)
            lease.renew()
            found = due(table.refresh(), held, at)
        if not dry_run and found.records and not found.partitions:
            with catalog_errors(settings), table.transaction() as change:
                change.set_properties({EMPTIED + group: record.to_json() for group, record in found.records.items()})
            state = TableState.of(table.refresh())
    names = dict.fromkeys(name for columns in first.partitions.values() for name in columns)
    did = (f"{', '.join(names)} emptied in {len(first.partitions)} partitions",) if names else ()
    took = time.perf_counter() - started
    return UpkeepReport(
        "column retention", spec.table(), before, state, did, dry_run, first.files, first.file_bytes, took
    )


def _empty(spark: SparkSession, settings: Settings, table: Table, found: Due, progress: Progress) -> None:
    """Rewrite the partitions, those that lose the same columns together."""
    catalog, spec = settings.catalog.in_spark, table_spec(table)
    name = f"{catalog}.{'.'.join(table.name())}"
    alike: dict[tuple[str, ...], list[str]] = {}
    for (spec_id, values), columns in found.partitions.items():
        alike.setdefault(columns, []).append(partition_condition(table, catalog, spec_id, values))
    with job(spark, settings):
        order_writes(spark, table, name)
        for columns, places in alike.items():
            for start in range(0, len(places), GROUP_PARTITIONS):
                group = places[start : start + GROUP_PARTITIONS]
                progress(f"Emptying {', '.join(columns)} in {len(group)} partitions")
                where = " OR ".join(f"({place})" for place in group)
                _rewrite(spark, table, name, where, [spec.column(c) for c in columns])


def _rewrite(spark: SparkSession, table: Table, name: str, where: str, columns: list[Column]) -> None:
    """One commit, on the state that was read; anew where another writer came between."""
    from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]
    from pyspark.errors import PySparkException

    for attempt in range(ATTEMPTS):
        head = table.refresh().current_snapshot()
        assert head is not None
        rows = spark.read.option("versionAsOf", str(head.snapshot_id)).table(name).where(where)
        for column in columns:
            if column.name in rows.columns:
                rows = rows.withColumn(column.name, emptied(column, rows.schema[column.name].dataType))
        writer = (
            rows.writeTo(name)
            .option("check-nullability", "false")
            .option("isolation-level", "serializable")
            .option("validate-from-snapshot-id", str(head.snapshot_id))
            .option(f"snapshot-property.{JOB}", ",".join(c.name for c in columns))
        )
        try:
            writer.overwritePartitions()
        except (PySparkException, Py4JJavaError) as error:
            if "conflict" not in str(error) or attempt == ATTEMPTS - 1:
                raise
        else:
            return


def emptied(column: Column, kind: DataType) -> SparkColumn:
    """What takes the place of a column's values, in its type; a list of it where each candidate has its own."""
    from pyspark.sql import functions as F

    one = emptied_value(column)
    return (F.transform(F.col("item_id"), lambda _: one) if column.per_candidate else one).cast(kind)


def emptied_value(column: Column) -> SparkColumn:
    """What takes the place of one request's or one candidate's value, as a literal without a type."""
    from pyspark.sql import functions as F

    what, default = replaced_by(column), column.feature.default if column.feature else None
    return F.array() if what == "empty" else F.lit(default if what == "default" else None)
