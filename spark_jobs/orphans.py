"""Orphans: files in a dataset's tables that no live metadata references, left by jobs that died. Needs no Spark.

A writer's files are orphans until it commits, so only files of some age are removed (24 hours by the settings).
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from lakehouse.catalog import catalog_errors, open_catalog, table_names
from lakehouse.lease import drop_left_aside, lease_name, maintenance_lease
from lakehouse.schema import open_request_table
from lakehouse.settings import Settings
from lakehouse.spec import DatasetSpec
from lakehouse.upkeep.files import StoredFile, owner, referenced, remove, stored
from lakehouse.upkeep.state import TableState, UpkeepReport
from spark_jobs.report import Progress


def run(
    settings: Settings, spec: DatasetSpec, *, dry_run: bool = False, progress: Progress = lambda _: None
) -> list[UpkeepReport]:
    """Remove the old orphans of every table of the dataset. Raises TableMissingError, LeaseError."""
    catalog = open_catalog(settings)
    with maintenance_lease(catalog, spec, settings, "orphans"):
        open_request_table(catalog, spec, settings)
        reports = []
        drop_left_aside(catalog, spec, settings)
        with catalog_errors(settings):
            lease = catalog.load_table(lease_name(spec))  # holders that died have left files in its folder
        for table in (lease, *dataset_tables(catalog, spec, settings)):
            progress(f"Looking for orphans of {'.'.join(table.name())}")
            reports.append(clear(table, timedelta(hours=settings.maintenance.orphan_hours), dry_run=dry_run))
        return reports


def clear(table: Table, age: timedelta, *, dry_run: bool = False) -> UpkeepReport:
    """Remove one table's orphans of an age."""
    started = time.perf_counter()
    state = TableState.of(table)
    lost = orphans(table, age)
    if not dry_run:
        remove(table.io, table.location(), [f.path for f in lost])
    size = sum(f.size for f in lost)
    did = (f"{len(lost)} files that nothing references",) if lost else ()
    name, seconds = ".".join(table.name()), time.perf_counter() - started
    return UpkeepReport("orphans", name, state, state, did, dry_run, len(lost), size, seconds)


def orphans(table: Table, age: timedelta) -> list[StoredFile]:
    """Files in the table's folder that are older than `age` and that its metadata does not reference.

    The folder is listed before the metadata is read again: a file that is committed in between is then referenced.
    """
    before = datetime.now(UTC) - age
    old = [f for f in stored(table.io, table.location()) if f.modified <= before]
    needed = referenced(table.refresh())
    return [f for f in old if owner(f.path) not in needed]


def dataset_tables(catalog: Catalog, spec: DatasetSpec, settings: Settings) -> list[Table]:
    """Every table of a dataset that is there, but for its lease. `feed_eu_requests` is not one of `feed`."""
    prefix, known = f"{spec.namespace}.{spec.name}_", table_names(catalog, spec.namespace)
    longer = [n.removesuffix("requests") for n in known if n.startswith(prefix) and n.endswith("_requests")]
    others = tuple(p for p in longer if p != prefix)
    names = [n for n in known if n.startswith(prefix) and not n.startswith(others) and n != lease_name(spec)]
    with catalog_errors(settings):
        return [catalog.load_table(name) for name in names]
