"""The tables beside the request table: each batch adds a small file and a snapshot to them, for years.

They are compacted and expired by the request table's rules. What a batch has in quarantine, and labels that wait, lie
in a partition of their own, so that a batch that is done again replaces exactly its rows: of these, files of one batch
are joined, not those of several.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from pyiceberg.table import Table

from lakehouse.catalog import open_catalog
from lakehouse.lease import maintenance_lease
from lakehouse.settings import Settings
from lakehouse.spec import DatasetSpec
from lakehouse.upkeep.health import PartitionHealth, partition_health
from lakehouse.upkeep.state import TableState, UpkeepReport
from spark_jobs import compact, expire
from spark_jobs.guard import job
from spark_jobs.ids import ORDER
from spark_jobs.orphans import dataset_tables
from spark_jobs.pending import CONFLICT
from spark_jobs.report import Progress

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def run(
    session: Callable[[], SparkSession],
    settings: Settings,
    spec: DatasetSpec,
    *,
    dry_run: bool = False,
    progress: Progress = lambda _: None,
) -> list[UpkeepReport]:
    """Compact what is due of each table, then expire its old snapshots; a report of each that did something.

    A table that a batch rewrites meanwhile is left for the next time. Raises LeaseError, CatalogError.
    """
    catalog, reports = open_catalog(settings), []
    with maintenance_lease(catalog, spec, settings, "compact") as lease:
        orders = _orders(spec)
        for table in dataset_tables(catalog, spec, settings):
            order = orders.get(".".join(table.name()))
            if order is not None:
                progress(f"Looking at {'.'.join(table.name())}")
                reports.append(_compact(session, settings, table, order, dry_run=dry_run))
                reports.append(_expire(table, settings, dry_run=dry_run))
                lease.renew()
    return reports


def _orders(spec: DatasetSpec) -> dict[str, tuple[str, ...]]:
    """The tables by name, and the columns by which each is written in order."""
    return {
        spec.table("ledger"): (),
        spec.table("suite_results"): (),
        spec.table("quarantine"): (),
        spec.table("pending_labels"): (),
        spec.table("ids"): ORDER,
    }


def _compact(
    session: Callable[[], SparkSession], settings: Settings, table: Table, order: tuple[str, ...], *, dry_run: bool
) -> UpkeepReport:
    started, before, due = time.perf_counter(), TableState.of(table), _due(table, settings)
    name, many = ".".join(table.name()), compact.manifests_due(before, settings.maintenance)
    did = [f"{len(due)} partitions rewritten"] if due else []
    did += ["manifests rewritten"] if many else []
    size, files = sum(p.file_bytes for p in due), sum(p.files for p in due)
    if did and not dry_run and not _rewrite(session(), settings, table, due, order, manifests=many):
        did, size, files = ["left for the next time: a batch wrote meanwhile"], 0, 0
    after = before if dry_run else TableState.of(table.refresh())
    seconds = time.perf_counter() - started
    return UpkeepReport("compact", name, before, after, tuple(did), dry_run, files, size, seconds, tuple(due))


def _due(table: Table, settings: Settings) -> list[PartitionHealth]:
    """Partitions that are due by the thresholds, and those of an older partitioning."""
    now = table.spec().spec_id
    found = partition_health(table, settings.maintenance, by_user=False)
    return [p for p in found if p.due or (p.files and p.spec_id != now)]


def _rewrite(
    spark: SparkSession,
    settings: Settings,
    table: Table,
    due: list[PartitionHealth],
    order: tuple[str, ...],
    *,
    manifests: bool,
) -> bool:
    """Rewrite partitions, and the manifests where they are many; whether no other job got in the way."""
    from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]
    from pyspark.errors import PySparkException

    name = f"{settings.catalog.in_spark}.{'.'.join(table.name())}"
    try:
        with job(spark, settings):
            for group in compact.groups(due):
                compact.rewrite(spark, settings, table, name, group, by=order)
            if manifests:
                spark.sql(f"CALL {settings.catalog.in_spark}.system.rewrite_manifests('{name}')").collect()
    except (PySparkException, Py4JJavaError) as error:
        if not any(mark in str(error) for mark in CONFLICT):
            raise
        return False
    return True


def _expire(table: Table, settings: Settings, *, dry_run: bool) -> UpkeepReport:
    limits, started, before = settings.maintenance, time.perf_counter(), TableState.of(table)
    gone = expire.due(table, limits.keep_days, limits.keep_snapshots)
    files, size = expire.expire(table, gone, settings, dry_run=dry_run)
    after = before if dry_run else TableState.of(table.refresh())
    did = (f"{len(gone)} snapshots expired, {files} files removed",) if gone else ()
    seconds = time.perf_counter() - started
    return UpkeepReport("expire", ".".join(table.name()), before, after, did, dry_run, files, size, seconds)
