"""What a rebucket would do, and when it makes no sense. Needs no Spark and changes nothing."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pyiceberg.conversions import from_bytes
from pyiceberg.table import Table
from pyiceberg.types import TimestamptzType

from lakehouse.audit_branches import audit_branches
from lakehouse.catalog import open_catalog
from lakehouse.schema import open_request_table, table_spec
from lakehouse.settings import Settings
from lakehouse.spec import DatasetSpec, Partition
from lakehouse.spec.advice import describe
from lakehouse.tags.reader_lease import UNTIL
from lakehouse.tags.sets import READER
from lakehouse.upkeep.health import live_files
from lakehouse.upkeep.relayout import BEFORE, with_layout
from lakehouse.upkeep.state import TableState
from lakehouse.upkeep.swap import others_of
from spark_jobs.errors import RebucketError
from spark_jobs.rebucket_states import states_of

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class RebucketPlan:
    """What is there, what is wanted, and what comes over: (name, kind, rows) of each tag and branch, and main.

    `partitions` is how many the whole table has at most; `lost` counts snapshots that no tag or branch holds;
    `unfinished` says that a run which died has begun to build.
    """

    table: str
    before: Partition
    after: Partition
    state: TableState
    partitions: int
    states: tuple[tuple[str, str, int], ...]
    lost: int
    unfinished: bool

    @property
    def kept(self) -> str:
        """What the table of now will be called."""
        return f"{self.table}{BEFORE}"


def plan(settings: Settings, spec: DatasetSpec, partition: Partition) -> RebucketPlan:
    """Raises RebucketError where it makes no sense, SpecError for a layout that the spec forbids, TableMissingError."""
    catalog = open_catalog(settings)
    table = open_request_table(catalog, spec, settings)
    anew, _ = others_of(catalog, spec.table())
    refuse(table, partition, kept=others_of(catalog, spec.table())[1])
    states = states_of(table)
    held = {state.snapshot_id for state in states}
    return RebucketPlan(
        table=spec.table(),
        before=table_spec(table).partition,
        after=partition,
        state=TableState.of(table),
        partitions=_periods(table, partition.grain) * partition.buckets,
        states=tuple((s.name, s.kind.value, _rows(table, s.snapshot_id)) for s in states),
        lost=sum(s.snapshot_id not in held for s in table.metadata.snapshots),
        unfinished=anew is not None,
    )


def refuse(table: Table, partition: Partition, *, kept: str | None) -> None:
    """Raises RebucketError that names why a table cannot be laid out anew as asked, or not now."""
    name, spec = ".".join(table.name()), table_spec(table)
    with_layout(spec, partition)
    if kept is not None:
        raise RebucketError(
            f"{kept}, the table of before the last rebucket, is there still: go back to it (`reqlake rebucket "
            f"{spec.name} --back`) or let it go (`reqlake rebucket {spec.name} --drop-kept`) first"
        )
    older = {spec_id for spec_id, _ in live_files(table)} - {table.spec().spec_id}
    if partition == spec.partition and not older:
        raise RebucketError(f"{name} is laid out as {describe(partition)} already: there is nothing to do")
    refuse_users(table)


def refuse_users(table: Table) -> None:
    """Raises RebucketError where a writer or a reader works with the table now and would lose it."""
    name = ".".join(table.name())
    running = [branch.name for branch in audit_branches(table)]
    if running:
        raise RebucketError(f"an ingest is running on {name} ({running[0]}): run this again when it has ended")
    now = time.time()
    for ref in table.metadata.refs:
        run = ref.removeprefix(READER)
        until = float(table.properties.get(UNTIL + run, "inf"))
        if ref.startswith(READER) and until >= now:
            when = (
                "it is dropped" if until == float("inf") else f"{EPOCH + timedelta(seconds=until):%Y-%m-%d %H:%M} UTC"
            )
            raise RebucketError(
                f"the reader {run!r} holds a snapshot of {name} until {when}: its lease could not be renewed on "
                f"another table. Run this again when it has ended"
            )


def _rows(table: Table, snapshot_id: int) -> int:
    snapshot = table.snapshot_by_id(snapshot_id)
    summary = snapshot.summary.additional_properties if snapshot and snapshot.summary else {}
    return int(summary.get("total-records", "0")) - int(summary.get("total-position-deletes", "0"))


def _periods(table: Table, grain: str) -> int:
    """Periods from the first to the last request of main, by the files' bounds; 1 without a grain."""
    if grain == "none":
        return 1
    field_id = table.schema().find_field("request_ts").field_id
    times = [
        EPOCH + timedelta(microseconds=int(from_bytes(TimestamptzType(), bounds[field_id])))
        for _, file in live_files(table)
        for bounds in (file.lower_bounds, file.upper_bounds)
        if bounds and field_id in bounds
    ]
    if not times:
        return 1
    first, last = min(times), max(times)
    if grain == "day":
        return (last.date() - first.date()).days + 1
    months = (last.year - first.year) * 12 + last.month - first.month
    return months + 1 if grain == "month" else last.year - first.year + 1
