"""Backfill: a request or candidate feature added to a table, or rewritten, from a source keyed like it.

The table's side of the join never moves: it is read partition by partition, joined where it lies (a storage-partitioned
join: only the narrow source is shuffled or broadcast) and written back into the same partitions. Groups of partitions
are committed one by one and named in the snapshot's summary, so that a job that died goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pyiceberg.table import Table

from lakehouse.catalog import load_table, open_catalog
from lakehouse.lease import maintenance_lease
from lakehouse.schema import open_request_table, table_spec
from lakehouse.settings import Settings
from lakehouse.spec import DatasetSpec
from lakehouse.upkeep.health import PartitionHealth, partition_health, spark_condition
from lakehouse.upkeep.state import TableState
from spark_jobs.backfill_column import Target, ensure_column
from spark_jobs.backfill_source import Counts, Source, judge_keys, read_source
from spark_jobs.compact import groups
from spark_jobs.errors import BackfillError
from spark_jobs.files import find_files
from spark_jobs.guard import job
from spark_jobs.layout import order_writes
from spark_jobs.report import Progress

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

JOB, DONE = "reqlake.backfill", "reqlake.backfill-partitions"
ATTEMPTS = 3
# With these the table's partitions are the join's: no exchange above its scan, whatever the source is.
IN_PLACE = {
    "spark.sql.sources.v2.bucketing.enabled": "true",
    "spark.sql.sources.v2.bucketing.pushPartValues.enabled": "true",
    "spark.sql.sources.v2.bucketing.shuffle.enabled": "true",
    "spark.sql.sources.v2.bucketing.allowJoinKeysSubsetOfPartitionKeys.enabled": "true",
    "spark.sql.requireAllClusterKeysForCoPartition": "false",
    "spark.sql.iceberg.planning.preserve-data-grouping": "true",
}
Missing = Literal["keep", "null"]


@dataclass(frozen=True)
class BackfillReport:
    """What a backfill did. `keys` counts the source's; `notes` says what slowed it."""

    table: str
    feature: str
    added: bool
    keys: Counts
    partitions: int
    resumed: int
    before: TableState
    after: TableState
    notes: tuple[str, ...]
    seconds: float


def run(
    spark: SparkSession,
    settings: Settings,
    spec: DatasetSpec,
    feature: str,
    source: str,
    *,
    missing: Missing = "keep",
    dry_run: bool = False,
    progress: Progress = lambda _: None,
) -> BackfillReport:
    """Write `feature` from `source`, a table's full name or Parquet files, with user_id, request_id and the feature.

    A source with item_id or position fills a candidate feature. What the source does not have keeps its value (null
    where the feature is new), or with `missing="null"` becomes null; keys that the table does not have are counted.
    With `dry_run` the keys are judged and counted, and nothing is written.
    Raises BackfillError for null or duplicate keys and a feature or type that does not fit, LeaseError, CatalogError.
    """
    started = time.perf_counter()
    catalog = open_catalog(settings)
    name = f"{settings.catalog.in_spark}.{spec.table()}"
    with maintenance_lease(catalog, spec, settings, "backfill") as lease, job(spark, settings), _in_place(spark):
        table = open_request_table(catalog, spec, settings)
        before = TableState.of(table)
        if table.current_snapshot() is None:
            raise BackfillError(f"{spec.table()} is empty: ingest something first (`reqlake ingest`)")
        progress("Checking the source's keys")
        order_writes(spark, table, name)
        read = read_source(spark, settings, table_spec(table), feature, source)
        found = judge_keys(spark.table(name), read, spec, source)
        if dry_run:
            known = {c.name for c in table_spec(table).columns()}
            due = [p for p in partition_health(table, settings.maintenance) if p.files]
            notes = _notes(table, due)
            took = time.perf_counter() - started
            return BackfillReport(
                spec.table(), feature, feature not in known, found, len(due), 0, before, before, notes, took
            )
        identity = _identity(settings, feature, source, missing)
        target, added = ensure_column(table, table_spec(table), feature, read, settings)
        partitions = partition_health(table, settings.maintenance)
        notes = _notes(table, partitions)
        done = _done(table, identity)
        left = [p for p in partitions if p.files and p.name not in done]
        written = 0
        for group in groups(left):
            progress(f"Writing {len(group)} of {len(left) - written} partitions")
            _write_group(spark, settings, table, group, _Step(name, read, target, missing, identity))
            written += len(group)
            lease.renew()
        after = TableState.of(table.refresh())
    took = time.perf_counter() - started
    resumed = len([p for p in partitions if p.name in done])
    return BackfillReport(spec.table(), feature, added, found, written, resumed, before, after, notes, took)


@dataclass(frozen=True)
class _Step:
    table: str
    source: Source
    target: Target
    missing: Missing
    identity: str


def _write_group(
    spark: SparkSession, settings: Settings, table: Table, group: list[PartitionHealth], step: _Step
) -> None:
    """Rewrite whole partitions in one commit, on the state that was read; anew where another writer came between."""
    from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]
    from pyspark.errors import PySparkException
    from pyspark.sql import functions as F

    where = " OR ".join(f"({spark_condition(table, settings.catalog.in_spark, p)})" for p in group)
    everything = len(group) == len(partition_health(table, settings.maintenance))
    for attempt in range(ATTEMPTS):
        head = table.refresh().current_snapshot()
        assert head is not None
        rows = spark.read.option("versionAsOf", str(head.snapshot_id)).table(step.table)
        if step.target.name not in rows.columns:  # a snapshot of before the column was added has its own schema
            rows = rows.withColumn(step.target.name, F.lit(None).cast(step.target.spark_type))
        filled = fill(rows if everything else rows.where(where), step.source, step.target, step.missing)
        writer = (
            filled.select(*rows.columns)
            .writeTo(step.table)
            .option("check-nullability", "false")
            .option("distribution-mode", "none")
            .option("isolation-level", "serializable")
            .option("validate-from-snapshot-id", str(head.snapshot_id))
            .option(f"snapshot-property.{JOB}", step.identity)
            .option(f"snapshot-property.{DONE}", json.dumps([p.name for p in group]))
        )
        try:
            writer.overwritePartitions()
        except (PySparkException, Py4JJavaError) as error:
            if "conflict" not in str(error) or attempt == ATTEMPTS - 1:
                raise
        else:
            return


def fill(rows: DataFrame, source: Source, target: Target, missing: Missing) -> DataFrame:
    """The rows with the feature's column from the source, joined where they lie."""
    from pyspark.sql import functions as F

    old = F.col(f"`{target.name}`")
    joined = rows.join(source.by_request().hint("shuffle_hash"), ["user_id", "request_id"], "left")
    new: Column = F.col("_new")
    if source.level == "candidate":
        places = F.col(source.key)
        new = F.transform(places, lambda place: F.try_element_at(F.col("_new"), place))
        if missing == "keep":
            whole = F.coalesce(old, F.transform(places, lambda _: F.lit(None).cast(target.spark_element)))
            new = F.zip_with(whole, new, lambda before, after: F.coalesce(after, before))
    elif missing == "keep":
        new = F.coalesce(new, old)
    return joined.withColumn(target.name, new.cast(target.spark_type)).drop("_new")


def _done(table: Table, identity: str) -> set[str]:
    """Partitions that this very backfill has committed, by the summaries in main's history."""
    done: set[str] = set()
    snapshot = table.current_snapshot()
    while snapshot is not None:
        summary = snapshot.summary.additional_properties if snapshot.summary else {}
        if summary.get(JOB) == identity:
            done |= set(json.loads(summary[DONE]))
        parent = snapshot.parent_snapshot_id
        snapshot = table.snapshot_by_id(parent) if parent is not None else None
    return done


def _identity(settings: Settings, feature: str, source: str, missing: str) -> str:
    """Names a backfill: the feature and its source's content, not its path."""
    if is_table(source):
        table = load_table(open_catalog(settings), source, settings)
        snapshot = table.current_snapshot()
        content = f"{table.metadata.table_uuid}/{snapshot.snapshot_id if snapshot else None}"
    else:
        content = "\n".join(sorted(file.member for file in find_files([source])))
    return hashlib.sha256(f"{feature}\n{missing}\n{content}".encode()).hexdigest()[:32]


def is_table(source: str) -> bool:
    """Whether a source is a table's full name rather than files."""
    return source.count(".") == 1 and "/" not in source and not source.endswith(".parquet")


def _notes(table: Table, partitions: list[PartitionHealth]) -> tuple[str, ...]:
    older = [p for p in partitions if p.spec_id != table.spec().spec_id]
    if not older:
        return ()
    return (
        f"{len(older)} partitions are of an older partitioning: they are shuffled, `reqlake compact --every` first",
    )


@contextmanager
def _in_place(spark: SparkSession) -> Iterator[None]:
    before: dict[str, Any] = {name: spark.conf.get(name, None) for name in IN_PLACE}
    for name, value in IN_PLACE.items():
        spark.conf.set(name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                spark.conf.unset(name)
            else:
                spark.conf.set(name, value)
