"""Expire: snapshots that are old and that nothing holds, and the files that only they needed. Needs no Spark.

A tag, a branch or a reader's lease holds its snapshot. A batch is entered in the ledger before the snapshot that
published it goes, or the same batch could be ingested twice. A job that dies after its commit leaves files that nothing
references: `orphans` removes them.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from pyiceberg.catalog import Catalog
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from lakehouse.catalog import catalog_errors, open_catalog
from lakehouse.errors import ExpiryError, TableMissingError
from lakehouse.lease import maintenance_lease
from lakehouse.ledger import BATCH, Ledger
from lakehouse.schema import open_request_table
from lakehouse.settings import Settings
from lakehouse.spec import DatasetSpec
from lakehouse.tags import READER, drop_ended_leases
from lakehouse.upkeep.age import outlived
from lakehouse.upkeep.files import bare, referenced_by, remove, stored
from lakehouse.upkeep.state import TableState, UpkeepReport
from spark_jobs.report import Progress


def run(
    settings: Settings,
    spec: DatasetSpec,
    *,
    older_than_days: float | None = None,
    keep: int | None = None,
    snapshots: Sequence[int] = (),
    dry_run: bool = False,
    progress: Progress = lambda _: None,
) -> UpkeepReport:
    """Expire by age (settings: 7 days, the newest one kept), or exactly the snapshots that are given.

    Raises ExpiryError for a given one that a tag, a branch or a lease holds, TableMissingError for one that is not
    there, LeaseError while another job runs.
    """
    started = time.perf_counter()
    catalog = open_catalog(settings)
    with maintenance_lease(catalog, spec, settings, "expire"):
        table = open_request_table(catalog, spec, settings)
        before = TableState.of(table)
        progress("Entering published batches in the ledger")
        _enter_batches(catalog, spec, settings, table)
        ended = [] if dry_run else drop_ended_leases(table, settings)
        days = settings.maintenance.keep_days if older_than_days is None else older_than_days
        kept = settings.maintenance.keep_snapshots if keep is None else keep
        gone = _asked(table, snapshots) if snapshots else due(table, days, kept)
        progress(f"Expiring {len(gone)} of {len(table.metadata.snapshots)} snapshots")
        files, size = expire(table, gone, settings, dry_run=dry_run)
        after = before if dry_run else TableState.of(table.refresh())
    did: tuple[str, ...] = (f"{len(gone)} snapshots expired, {files} files removed",) if gone else ()
    did += (f"{len(ended)} readers' leases ended",) if ended else ()
    reading = _read_now(table)
    did += (f"kept for {', '.join(reading)}",) if reading else ()
    return UpkeepReport("expire", spec.table(), before, after, did, dry_run, files, size, time.perf_counter() - started)


def due(table: Table, days: float, keep: int) -> list[Snapshot]:
    """Snapshots that nothing holds, that are not among main's `keep` newest, and whose place another took long ago."""
    newest = set()
    snapshot = table.current_snapshot()
    for _ in range(keep):
        if snapshot is None:
            break
        newest.add(snapshot.snapshot_id)
        parent = snapshot.parent_snapshot_id
        snapshot = table.snapshot_by_id(parent) if parent is not None else None
    return [s for s in outlived(table, days) if s.snapshot_id not in newest]


def expire(table: Table, gone: list[Snapshot], settings: Settings, *, dry_run: bool = False) -> tuple[int, int]:
    """Remove snapshots, then the files that only they referenced: how many, and their bytes."""
    if not gone:
        return 0, 0
    ids = {s.snapshot_id for s in gone}
    theirs = referenced_by(table, gone)
    kept = referenced_by(table, [s for s in table.metadata.snapshots if s.snapshot_id not in ids])
    unneeded = theirs - kept
    sizes = {bare(f.path): f.size for f in stored(table.io, table.location())}
    total = sum(sizes.get(path, 0) for path in unneeded)
    if dry_run:
        return len(unneeded & sizes.keys()), total
    with catalog_errors(settings):
        table.maintenance.expire_snapshots().by_ids(sorted(ids)).commit()
    # A writer that committed on top of a snapshot in the meantime may need some of these files.
    table.refresh()
    unneeded -= referenced_by(table, table.metadata.snapshots)
    return remove(table.io, table.location(), unneeded), total


def _read_now(table: Table) -> list[str]:
    """Leases of readers that hold what main has left behind."""
    main = table.metadata.current_snapshot_id
    refs = table.metadata.refs.items()
    return sorted(name for name, ref in refs if name.startswith(READER) and ref.snapshot_id != main)


def _enter_batches(catalog: Catalog, spec: DatasetSpec, settings: Settings, table: Table) -> None:
    """Bring the ledger up to date with main's history. Raises ExpiryError where a batch is missing still."""
    ledger = Ledger(catalog, spec, settings)
    ledger.recover(table)
    known = ledger.batches()
    missing = [s for s in _main(table) if (batch := _batch(s)) is not None and batch not in known]
    if missing:
        raise ExpiryError(
            f"batch {_batch(missing[0])} of snapshot {missing[0].snapshot_id} is not in {spec.table('ledger')}: "
            f"expiring it would let the batch in twice. Run `reqlake ingest` once, which mends the ledger"
        )


def _main(table: Table) -> Iterable[Snapshot]:
    snapshot = table.current_snapshot()
    while snapshot is not None:
        yield snapshot
        parent = snapshot.parent_snapshot_id
        snapshot = table.snapshot_by_id(parent) if parent is not None else None


def _batch(snapshot: Snapshot) -> str | None:
    return (snapshot.summary.additional_properties if snapshot.summary else {}).get(BATCH)


def _asked(table: Table, ids: Sequence[int]) -> list[Snapshot]:
    found = []
    for snapshot_id in ids:
        snapshot = table.snapshot_by_id(snapshot_id)
        if snapshot is None:
            raise TableMissingError(f"{'.'.join(table.name())} has no snapshot {snapshot_id}")
        holders = [
            f"{ref.snapshot_ref_type.value} {name!r}"
            for name, ref in table.metadata.refs.items()
            if ref.snapshot_id == snapshot_id
        ]
        if holders:
            raise ExpiryError(
                f"snapshot {snapshot_id} is held by {', '.join(holders)}: nothing was expired. `reqlake tag drop` lets "
                f"go of a training set; a reader's lease ends with the reader"
            )
        found.append(snapshot)
    return found
