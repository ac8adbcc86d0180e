"""Retention: whole time partitions that are older than the settings allow are dropped, by metadata alone.

Tags keep what they pin; the files go when the snapshots that hold them expire.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from pyiceberg.table import Table

from lakehouse.catalog import catalog_errors, open_catalog
from lakehouse.errors import SettingsError
from lakehouse.lease import maintenance_lease
from lakehouse.schema import open_request_table, table_spec
from lakehouse.settings import Settings
from lakehouse.spec import DatasetSpec
from lakehouse.upkeep.emptied import cutoff as oldest_kept
from lakehouse.upkeep.health import live_files, time_span
from lakehouse.upkeep.state import TableState, UpkeepReport
from spark_jobs.report import Progress


def run(
    settings: Settings,
    spec: DatasetSpec,
    *,
    dry_run: bool = False,
    now: datetime | None = None,
    progress: Progress = lambda _: None,
) -> UpkeepReport:
    """Drop partitions whose span of time ended longer ago than the dataset's retention; nothing where it has none.

    Raises SettingsError where the table is not partitioned by time, TableMissingError, LeaseError.
    """
    started = time.perf_counter()
    catalog = open_catalog(settings)
    with maintenance_lease(catalog, spec, settings, "retention"):
        table = open_request_table(catalog, spec, settings)
        state = before = TableState.of(table)
        cut = cutoff(table, settings, now or datetime.now(UTC))
        due = [] if cut is None else _older(table, cut)
        if cut is not None and due and not dry_run:
            progress(f"Dropping {len(due)} files of before {cut:%Y-%m-%d}")
            with catalog_errors(settings):
                table.delete(f"request_ts < '{cut.isoformat()}'")
            state = TableState.of(table.refresh())
    did = (f"partitions before {cut:%Y-%m-%d} dropped",) if cut is not None and due else ()
    size, seconds = sum(due), time.perf_counter() - started
    return UpkeepReport("retention", spec.table(), before, state, did, dry_run, len(due), size, seconds)


def cutoff(table: Table, settings: Settings, now: datetime) -> datetime | None:
    """The start of the oldest partition that stays. None where the dataset has no retention."""
    spec = table_spec(table)
    kept: timedelta | None = settings.maintenance.retention.get(spec.name)
    if kept is None:
        return None
    if spec.partition.grain == "none":
        raise SettingsError(
            f"maintenance.retention of {spec.name}: its table is not partitioned by time, so there is no partition to "
            f"drop. Take the retention out of the settings, or build the table with a grain"
        )
    return oldest_kept(spec.partition.grain, now, kept)


def _older(table: Table, cut: datetime) -> list[int]:
    """Bytes of each file in a partition that ended before."""
    found = []
    for spec_id, file in live_files(table):
        for i, part in enumerate(table.specs()[spec_id].fields):
            span = time_span(part, file.partition[i])
            if span is not None and span[1] <= cut:
                found.append(file.file_size_in_bytes)
    return found
