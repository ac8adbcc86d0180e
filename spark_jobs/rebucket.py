"""Rebucket: a request table under another layout, built beside it, proved, and swapped in by name.

    refuse? → ledger → build: each tag, each branch, main (write, read back, compare, name) → swap

The name's table is untouched until the swap, which is one transaction where the catalog is SQL and fails where anybody
has committed meanwhile: then what came new is carried over and it is tried again. A run that died is gone on with; what
it wrote is found by checksums. The table of before stays under `<name>_before`, and `back` is the same swap again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table
from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.update.snapshot import ManageSnapshots

from lakehouse.catalog import ASIDE, catalog_errors, load_table, open_catalog, table_names
from lakehouse.lease import Lease, maintenance_lease
from lakehouse.ledger import Ledger
from lakehouse.schema import open_request_table, table_spec
from lakehouse.settings import Settings
from lakehouse.spec import DatasetSpec, Partition
from lakehouse.tags import drop_ended_leases
from lakehouse.upkeep.relayout import (
    ANEW,
    BEFORE,
    FORMER,
    RECORD,
    begin,
    carried,
    former_uuids,
    record_of,
    successors,
    uuid_of,
    with_layout,
)
from lakehouse.upkeep.state import TableState
from lakehouse.upkeep.swap import drop_whole, mend, others_of, swap
from spark_jobs.errors import RebucketError
from spark_jobs.guard import job
from spark_jobs.layout import order_writes
from spark_jobs.publish import drop_leftovers
from spark_jobs.rebucket_back import Pair, compare
from spark_jobs.rebucket_plan import refuse, refuse_users
from spark_jobs.rebucket_states import MAIN, Building, carry, read_with, states_of
from spark_jobs.report import Progress

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

TRIES = 5
# A partition is one task's, whatever its size: its files then follow each other in the order of the users.
WHOLE_PARTITIONS = "spark.sql.adaptive.optimizeSkewsInRebalancePartitions.enabled"


@dataclass(frozen=True)
class RebucketReport:
    """What a rebucket did. `snapshots`: (tag or branch, snapshot of before, snapshot of now), main among them."""

    table: str
    kept: str
    partition: Partition
    written: int
    snapshots: tuple[tuple[str, int, int], ...]
    lost: int
    before: TableState
    after: TableState
    seconds: float


def run(
    spark: SparkSession,
    settings: Settings,
    spec: DatasetSpec,
    partition: Partition,
    *,
    progress: Progress = lambda _: None,
) -> RebucketReport:
    """Build the table under `partition`, prove it, and swap it in.

    Raises RebucketError where it makes no sense, where a writer or reader works with the table, or where the proof
    fails; SpecError for a layout that the spec forbids; LeaseError, TableMissingError, CatalogError.
    """
    started = time.perf_counter()
    catalog = open_catalog(settings)
    with maintenance_lease(catalog, spec, settings, "rebucket") as lease, job(spark, settings), _whole(spark):
        source = open_request_table(catalog, spec, settings)
        before, building = TableState.of(source), None
        for attempt in range(TRIES):
            _look(catalog, source.refresh(), spark, settings, partition)
            Ledger(catalog, spec, settings).recover(source)
            if building is None:
                building = _begin(spark, settings, source, partition, progress)
            _carry_all(building, lease)
            try:
                progress("Swapping the tables")
                swap(catalog, source, building.table, f"{spec.table()}{BEFORE}", settings)
            except CommitFailedException:
                if attempt == TRIES - 1:
                    raise RebucketError(
                        f"{spec.table()} was changed {TRIES} times while its table was being built: stop its writers "
                        f"and run this again, what is built is kept"
                    ) from None
                progress("The table was changed meanwhile: carrying that over")
            else:
                break
        assert building is not None
        new = open_request_table(catalog, spec, settings)
        pairs = building.record.snapshots
        states = states_of(source)
        held = {state.snapshot_id for state in states}
        return RebucketReport(
            table=spec.table(),
            kept=f"{spec.table()}{BEFORE}",
            partition=partition,
            written=building.partitions,
            snapshots=tuple((s.name, s.snapshot_id, pairs[s.snapshot_id]) for s in states),
            lost=sum(s.snapshot_id not in held for s in source.metadata.snapshots),
            before=before,
            after=TableState.of(new),
            seconds=time.perf_counter() - started,
        )


def _look(catalog: Catalog, source: Table, spark: SparkSession, settings: Settings, partition: Partition) -> None:
    """Drop what dead writers and readers have left, then refuse what is alive."""
    name = ".".join(source.name())
    drop_leftovers(spark, source, f"{settings.catalog.in_spark}.{name}")
    drop_ended_leases(source.refresh(), settings)
    refuse(source.refresh(), partition, kept=others_of(catalog, name)[1])


def _begin(spark: SparkSession, settings: Settings, source: Table, partition: Partition, says: Progress) -> Building:
    """The table to build: one that a dead run has begun for the same, or a new one."""
    catalog, wanted = source.catalog, with_layout(table_spec(source), partition)
    name = ".".join(source.name())
    anew, table = f"{name}{ANEW}", None
    if others_of(catalog, name)[0] is not None:
        table = load_table(catalog, anew, settings)
        begun, layout = record_of(table), wanted.partition.model_dump_json()
        if begun is None or (begun.source, begun.layout) != (uuid_of(source), layout):
            says(f"Dropping {anew}, which was begun for something else")
            drop_whole(catalog, anew, settings)
            table = None
    if table is None:
        table = begin(source, wanted, anew, settings)
    order_writes(spark, table, f"{settings.catalog.in_spark}.{anew}")
    return Building(spark, settings, source, table, name, says)


def _carry_all(building: Building, lease: Lease) -> None:
    """Every state of the source, then what the table says of itself as a whole."""
    states = states_of(building.source)
    for state in states:
        carry(building, state)
        lease.renew()
    _drop_refs(building, {state.name for state in states})
    _finish(building)


def _drop_refs(building: Building, wanted: set[str]) -> None:
    """Refs that the source has lost since an earlier run carried them."""
    table = building.table
    for name, ref in list(table.metadata.refs.items()):
        if name not in {*wanted, MAIN}:
            with catalog_errors(building.settings), table.transaction() as change, ManageSnapshots(change) as refs:
                tag = ref.snapshot_ref_type == SnapshotRefType.TAG
                (refs.remove_tag if tag else refs.remove_branch)(name)
            table.refresh()


def _finish(building: Building) -> None:
    """Say of the whole where it came from; the last commit before the swap."""
    source, table = building.source, building.table.refresh()
    read_with(building, source.metadata.current_schema_id)
    kept = {state.snapshot_id for state in states_of(source)}
    pairs = {old: new for old, new in building.record.snapshots.items() if old in kept}
    heads = (source.metadata.current_snapshot_id, table.metadata.current_snapshot_id)
    record = replace(building.record, snapshots=pairs, heads=heads, ready=True)
    told = carried(source, with_layout(table_spec(source), table_spec(table).partition))
    told |= {RECORD: record.to_json()} | successors(pairs)
    if any(table.properties.get(name) != value for name, value in told.items()):
        with catalog_errors(building.settings), table.transaction() as change:
            change.set_properties(told)
        table.refresh()


def back(
    session: Callable[[], SparkSession],
    settings: Settings,
    spec: DatasetSpec,
    *,
    progress: Progress = lambda _: None,
) -> RebucketReport:
    """Swap the table of before in again; the one of now is then kept in its place, so that it can be undone as well.

    Where either has changed since the swap, both are compared as a whole, in Spark. Raises RebucketError where there
    is no such table, where they differ (what was ingested since would be lost), or where a writer or reader works.
    """
    started = time.perf_counter()
    catalog = open_catalog(settings)
    with maintenance_lease(catalog, spec, settings, "rebucket"):
        table = open_request_table(catalog, spec, settings)
        pair = Pair(table, _kept(catalog, table, settings))
        for one in (pair.now, pair.then):
            drop_ended_leases(one, settings)
        refuse_users(pair.now.refresh())
        refuse_users(pair.then.refresh())
        if not pair.untouched:
            progress("Comparing both tables, since one has changed")
            spark = session()
            with job(spark, settings):
                compare(spark, settings, pair)
        Ledger(catalog, spec, settings).recover(pair.now)
        before = TableState.of(pair.now)
        former = former_uuids(pair.then) | former_uuids(pair.now) | {uuid_of(pair.now)}
        told = successors(pair.snapshots) | {FORMER: ",".join(sorted(former - {uuid_of(pair.then)}))}
        if any(pair.then.properties.get(name) != value for name, value in told.items()):
            with catalog_errors(settings), pair.then.transaction() as change:
                change.set_properties(told)
        progress("Swapping the tables")
        try:
            swap(catalog, pair.now, pair.then.refresh(), ".".join(pair.then.name()), settings)
        except CommitFailedException:
            raise RebucketError(f"{spec.table()} was changed by another writer just now: run this again") from None
        new = open_request_table(catalog, spec, settings)
        states = [s for s in states_of(pair.now) if s.snapshot_id in pair.snapshots]
        return RebucketReport(
            table=spec.table(),
            kept=f"{spec.table()}{BEFORE}",
            partition=table_spec(new).partition,
            written=0,
            snapshots=tuple((s.name, s.snapshot_id, pair.snapshots[s.snapshot_id]) for s in states),
            lost=len(pair.now.metadata.snapshots) - len({s.snapshot_id for s in states_of(pair.now)}),
            before=before,
            after=TableState.of(new),
            seconds=time.perf_counter() - started,
        )


def _kept(catalog: Catalog, table: Table, settings: Settings) -> Table:
    name = others_of(catalog, ".".join(table.name()))[1]
    if name is None:
        raise RebucketError(f"{'.'.join(table.name())} has no table of before: there is nothing to go back to")
    return load_table(catalog, name, settings)


def drop_kept(settings: Settings, spec: DatasetSpec) -> tuple[list[str], int]:
    """Remove the table of before, and what an unfinished rebucket has left; their names and how many files.

    Raises LeaseError while a job runs.
    """
    catalog, files = open_catalog(settings), 0
    with maintenance_lease(catalog, spec, settings, "rebucket"):
        names = [name for name in others_of(catalog, spec.table()) if name is not None]
        for name in names:
            files += drop_whole(catalog, name, settings)
    return names, files


def mend_name(settings: Settings, name: str) -> bool:
    """Where a swap died between two renames (no SQL catalog has any), give the name its table; whether it did."""
    catalog = open_catalog(settings)
    aside = f"{name}{ASIDE}"
    if aside not in table_names(catalog, name.rpartition(".")[0]):
        return False
    with maintenance_lease(catalog, table_spec(load_table(catalog, aside, settings)), settings, "rebucket"):
        return mend(catalog, name, settings)


@contextmanager
def _whole(spark: SparkSession) -> Iterator[None]:
    before = spark.conf.get(WHOLE_PARTITIONS, None)
    spark.conf.set(WHOLE_PARTITIONS, "false")
    try:
        yield
    finally:
        if before is None:
            spark.conf.unset(WHOLE_PARTITIONS)
        else:
            spark.conf.set(WHOLE_PARTITIONS, before)
