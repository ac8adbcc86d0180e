"""Compact: rewrite the partitions that need it, sorted by user and request, beside ingest and pinned readers.

Iceberg's rewrite replaces exactly the files that it read: what is appended meanwhile stays, a file that is deleted
meanwhile fails the commit, and old snapshots keep their files until they expire. Partitions are rewritten in groups,
one commit each, so that a job that dies loses one group's work and the next finds the others done.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pyiceberg.table import Table

from lakehouse.catalog import open_catalog
from lakehouse.lease import maintenance_lease
from lakehouse.schema import open_request_table
from lakehouse.settings import MaintenanceSettings, Settings
from lakehouse.spec import DatasetSpec
from lakehouse.upkeep.health import PartitionHealth, partition_health, spark_condition
from lakehouse.upkeep.state import TableState, UpkeepReport
from spark_jobs.guard import job
from spark_jobs.layout import ORDER, order_writes
from spark_jobs.report import Progress

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

GROUP_BYTES, GROUP_PARTITIONS = 8 << 30, 64


def plan(settings: Settings, spec: DatasetSpec, *, every: bool = False) -> list[PartitionHealth]:
    """The partitions that are due, by the settings' thresholds, or every one. Needs no Spark."""
    table = open_request_table(open_catalog(settings), spec, settings)
    found = partition_health(table, settings.maintenance)
    return [p for p in found if p.due or (every and p.files)]


def manifests_due(state: TableState, limits: MaintenanceSettings) -> bool:
    """Whether manifests are to be written anew."""
    return state.manifests > limits.manifests


def run(
    spark: SparkSession,
    settings: Settings,
    spec: DatasetSpec,
    *,
    every: bool = False,
    progress: Progress = lambda _: None,
) -> UpkeepReport:
    """Rewrite the due partitions (or every one), and the manifests where they are many.

    Raises TableMissingError, LeaseError while another maintenance job runs, CatalogError.
    """
    started = time.perf_counter()
    catalog = open_catalog(settings)
    name = f"{settings.catalog.in_spark}.{spec.table()}"
    with maintenance_lease(catalog, spec, settings, "compact") as lease, job(spark, settings):
        table = open_request_table(catalog, spec, settings)
        before, due = TableState.of(table), plan(settings, spec, every=every)
        order_writes(spark, table, name)
        done = rewritten = 0
        for group in groups(due):
            progress(f"Rewriting {len(group)} of {len(due) - done} partitions")
            rewritten += rewrite(spark, settings, table, name, group)
            done += len(group)
            lease.renew()
        state = TableState.of(table.refresh())
        did = [f"{done} partitions rewritten"] if done else []
        if manifests_due(state, settings.maintenance):
            progress(f"Rewriting {state.manifests} manifests")
            spark.sql(f"CALL {settings.catalog.in_spark}.system.rewrite_manifests('{name}')").collect()
            state = TableState.of(table.refresh())
            did.append("manifests rewritten")
    size = sum(p.file_bytes for p in due)
    seconds = time.perf_counter() - started
    return UpkeepReport("compact", spec.table(), before, state, tuple(did), False, rewritten, size, seconds, tuple(due))


def groups(due: list[PartitionHealth]) -> list[list[PartitionHealth]]:
    """Partitions in their order, cut so that a group has at most 64 of them, and 8 GB where it has more than one."""
    found: list[list[PartitionHealth]] = []
    for partition in due:
        last = found[-1] if found else None
        full = last is None or len(last) >= GROUP_PARTITIONS
        if last is None or full or sum(p.file_bytes for p in last) + partition.file_bytes > GROUP_BYTES:
            found.append([partition])
        else:
            last.append(partition)
    return found


def rewrite(
    spark: SparkSession,
    settings: Settings,
    table: Table,
    name: str,
    group: list[PartitionHealth],
    *,
    by: Sequence[str] = ORDER,
) -> int:
    """Rewrite whole partitions in one commit, ordered by columns if there are any; how many data files they had."""
    catalog = settings.catalog.in_spark
    where = " OR ".join(f"({spark_condition(table, catalog, partition)})" for partition in group)
    order = ", ".join(f"{column} ASC NULLS LAST" for column in by)
    strategy = f"strategy => 'sort', sort_order => '{order}'" if by else "strategy => 'binpack'"
    options = {
        "rewrite-all": "true",
        "remove-dangling-deletes": "true",
        "target-file-size-bytes": str(settings.maintenance.target_file_bytes),
    }
    listed = ", ".join(f"'{part}'" for part in itertools.chain.from_iterable(options.items()))
    escaped = where.replace("\\", "\\\\").replace("'", "\\'")
    row = spark.sql(
        f"CALL {catalog}.system.rewrite_data_files(table => '{name}', {strategy}, "
        f"where => '{escaped}', options => map({listed}))"
    ).collect()[0]
    return int(row["rewritten_data_files_count"])
