"""The states that a rebucket carries over: what each tag and branch holds, oldest first, then main.

A state is written over the one before it, and only in the partitions whose checksums differ, so that sets which share
most of their rows share most of their files. What a killed run has written is found by the same comparison.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pyiceberg.table import Table
from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.update import AssertTableUUID, SetCurrentSchemaUpdate
from pyiceberg.table.update.snapshot import ManageSnapshots
from pyiceberg.transforms import BucketTransform, DayTransform, MonthTransform, YearTransform

from lakehouse.catalog import catalog_errors
from lakehouse.settings import Settings
from lakehouse.tags.sets import MAP, READER, Pinned
from lakehouse.upkeep.health import live_files, partition_condition, time_span
from lakehouse.upkeep.in_order import in_order
from lakehouse.upkeep.relayout import RECORD, Record, record_of, uuid_of
from spark_jobs.checksums import Sums, checksums, differing
from spark_jobs.compact import GROUP_PARTITIONS
from spark_jobs.errors import RebucketError
from spark_jobs.layout import ORDER
from spark_jobs.report import Progress

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

MAIN = "main"
STATE = "reqlake.rebucket-state"
FUNCTIONS: dict[type[Any], str] = {DayTransform: "days", MonthTransform: "months", YearTransform: "years"}


@dataclass(frozen=True)
class State:
    """One named state of the source: a tag's or branch's snapshot, or main's."""

    name: str
    kind: SnapshotRefType
    snapshot_id: int
    schema_id: int


def states_of(source: Table) -> list[State]:
    """Every tag and branch but readers' leases, in the order in which their snapshots were made; main is last."""
    found = []
    for name, ref in source.metadata.refs.items():
        snapshot = source.snapshot_by_id(ref.snapshot_id)
        if name.startswith(READER) or snapshot is None:
            continue
        schema = snapshot.schema_id if snapshot.schema_id is not None else source.schema().schema_id
        found.append((snapshot.sequence_number or 0, State(name, ref.snapshot_ref_type, ref.snapshot_id, schema)))
    found.sort(key=lambda pair: (pair[1].name == MAIN, pair[0], pair[1].name))
    return [state for _, state in found]


@dataclass
class Building:
    """The table that is built, and what is known of its current state."""

    spark: SparkSession
    settings: Settings
    source: Table
    table: Table
    final_name: str
    progress: Progress
    sums: Sums | None = None
    """Checksums of its current state, read with its current schema; None where they were not looked at."""
    partitions: int = 0
    """How many partitions were written, over all states."""

    @property
    def record(self) -> Record:
        """What the table says of its source."""
        found = record_of(self.table)
        assert found is not None, f"{self.in_spark} is no table that a rebucket builds"
        return found

    @property
    def in_spark(self) -> str:
        """Its name with its catalog."""
        return ".".join((self.settings.catalog.in_spark, *self.table.name()))

    def frame(self) -> DataFrame:
        """Its current state, with where each row lies."""
        snapshot = self.table.current_snapshot()
        assert snapshot is not None
        return self.spark.read.option("versionAsOf", str(snapshot.snapshot_id)).table(self.in_spark)


def carry(building: Building, state: State) -> None:
    """Bring one state over, compare it with the source, and give it its name: in this order, each step once."""
    table = building.table.refresh()
    known = building.record.snapshots.get(state.snapshot_id)
    if known is None or table.snapshot_by_id(known) is None or state.name == MAIN:
        _write(building, state)
        current = building.table.refresh().current_snapshot()
        assert current is not None
        known = current.snapshot_id
    _name(building, state, known)


def _write(building: Building, state: State) -> None:
    """Write the partitions of a state that differ, read back what was written, and compare. Raises RebucketError."""
    read_with(building, state.schema_id)
    spark, catalog = building.spark, building.settings.catalog.in_spark
    name = ".".join((catalog, *building.source.name()))
    frame = spark.read.option("versionAsOf", str(state.snapshot_id)).table(name)
    building.progress(f"Reading {state.name}")
    wanted = checksums(frame, computed_groups(building.table, catalog))
    if building.sums is None:
        building.sums = _stored(building, None)
    have = building.sums
    changed = sorted((p for p in wanted if have.get(p) != wanted[p]), key=repr)
    gone = [p for p in have if p not in wanted]
    before = {file.file_path for _, file in live_files(building.table)}
    building.sums = None  # until what is written now was compared
    done = 0
    for group in _groups(building.table, changed):
        building.progress(f"Writing {len(group)} of {len(changed) - done} partitions of {state.name}")
        whole = len(group) == len(wanted)
        rows = frame if whole else frame.where(_condition(building, group))
        writer = rows.writeTo(building.in_spark).option("check-nullability", "false")
        writer.option(f"snapshot-property.{STATE}", state.name).overwritePartitions()
        done += len(group)
    for start in range(0, len(gone), GROUP_PARTITIONS):
        where = _condition(building, gone[start : start + GROUP_PARTITIONS])
        spark.sql(f"DELETE FROM {building.in_spark} WHERE {where}")
    building.partitions += len(changed)
    if building.table.refresh().current_snapshot() is None:  # a state without a row is a snapshot as well
        frame.limit(0).writeTo(building.in_spark).option("check-nullability", "false").append()
        building.table.refresh()
    building.progress(f"Reading back {state.name}")
    touched = [*changed, *gone]
    all_of_it = len(touched) >= len(have.keys() | wanted.keys())
    found = _stored(building, None if all_of_it or not touched else touched) if touched else {}
    found = {p: sums for p, sums in have.items() if p not in set(touched)} | found
    _compare(state, [f.name for f in frame.schema.fields], wanted, found)
    _prove_order(building, before)
    building.sums = wanted


def computed_groups(table: Table, catalog: str) -> dict[str, Column]:
    """The partition of a row, by its values: what the table's partitioning makes of them."""
    from pyspark.sql import functions as F

    groups: dict[str, Column] = {}
    for part in table.spec().fields:
        column = table.schema().find_column_name(part.source_id)
        kind = part.transform
        if isinstance(kind, BucketTransform):
            groups[part.name] = F.expr(f"{catalog}.system.bucket({kind.num_buckets}, `{column}`)")
        elif type(kind) in FUNCTIONS:
            groups[part.name] = F.expr(f"{catalog}.system.{FUNCTIONS[type(kind)]}(`{column}`)")
        else:
            groups[part.name] = F.col(f"`{column}`")
    return groups


def _stored(building: Building, partitions: list[tuple[Any, ...]] | None) -> Sums:
    """Checksums by the partition that the files say they are of, of some partitions or of all."""
    from pyspark.sql import functions as F

    if building.table.current_snapshot() is None:
        return {}
    frame = building.frame()
    if partitions is not None:
        frame = frame.where(_condition(building, partitions))
    return checksums(frame, {p.name: F.col(f"_partition.{p.name}") for p in building.table.spec().fields})


def _condition(building: Building, partitions: list[tuple[Any, ...]]) -> str:
    table, catalog = building.table, building.settings.catalog.in_spark
    return " OR ".join(f"({partition_condition(table, catalog, table.spec().spec_id, p)})" for p in partitions)


def _groups(table: Table, partitions: list[tuple[Any, ...]]) -> list[list[tuple[Any, ...]]]:
    """One commit each: whole periods, up to 64 partitions where a period has fewer.

    The source is scanned once a group, and only periods prune its files: a period is never scanned twice.
    """
    timed = type(table.spec().fields[0].transform) in FUNCTIONS
    found: list[list[tuple[Any, ...]]] = []
    last: Any = None
    for partition in partitions:
        period = time_span(table.spec().fields[0], partition[0]) if timed else None
        if not found or (period != last and len(found[-1]) >= GROUP_PARTITIONS):
            found.append([])
        found[-1].append(partition)
        last = period
    return found


def _compare(state: State, names: list[str], wanted: Sums, found: Sums) -> None:
    if wanted != found:
        raise RebucketError(
            f"{state.name} came back other than it was written ({', '.join(differing(names, wanted, found)[:5])} of "
            f"snapshot {state.snapshot_id} differ): nothing was swapped. Run it again, it writes those partitions "
            f"anew; report it if that does not help"
        )


def _prove_order(building: Building, before: set[str]) -> None:
    """Raises RebucketError where a new file's rows are not in the order of their keys."""
    from concurrent.futures import ThreadPoolExecutor

    io = building.table.io
    new = [f.file_path for _, f in live_files(building.table) if f.file_path not in before]
    with ThreadPoolExecutor(4) as pool:
        right = list(pool.map(lambda path: in_order(io, path, ORDER), new))
    wrong = [path for path, ordered in zip(new, right, strict=True) if not ordered]
    if wrong:
        raise RebucketError(f"{len(wrong)} of {len(new)} new files are not in order, such as {wrong[0]}: report it")


def read_with(building: Building, schema_id: int) -> None:
    """Make a schema of the source's the current one, so that files and snapshots are of the state's own."""
    table = building.table.refresh()
    if table.metadata.current_schema_id != schema_id:
        building.sums = None
        requirement = AssertTableUUID(uuid=table.metadata.table_uuid)
        with catalog_errors(building.settings):
            table.catalog.commit_table(table, (requirement,), (SetCurrentSchemaUpdate(schema_id=schema_id),))
        table.refresh()


def _name(building: Building, state: State, snapshot_id: int) -> None:
    """Set the state's tag or branch and say where it came from, in one commit."""
    table, record = building.table.refresh(), building.record
    there = table.metadata.refs.get(state.name)
    known = record.snapshots.get(state.snapshot_id) == snapshot_id
    if known and there is not None and there.snapshot_id == snapshot_id:
        return
    pairs = record.snapshots | {state.snapshot_id: snapshot_id}
    told = {RECORD: replace(record, snapshots=pairs).to_json()}
    if state.kind == SnapshotRefType.TAG:
        told[MAP + state.name] = _set_of(building, state, snapshot_id)
    old = building.source.metadata.refs[state.name]
    with catalog_errors(building.settings), table.transaction() as change:
        change.set_properties(told)
        if state.name != MAIN:
            with ManageSnapshots(change) as refs:
                if state.kind == SnapshotRefType.TAG:
                    refs.create_tag(snapshot_id, state.name, old.max_ref_age_ms)
                else:
                    refs.create_branch(snapshot_id, state.name, old.max_ref_age_ms, old.max_snapshot_age_ms)
    table.refresh()


def _set_of(building: Building, state: State, snapshot_id: int) -> str:
    """What the table says of a set: as before, but for this table's entry; a set of another tool's keeps its date."""
    text = building.source.properties.get(MAP + state.name)
    snapshot = building.source.snapshot_by_id(state.snapshot_id)
    made = datetime.fromtimestamp((snapshot.timestamp_ms if snapshot else 0) / 1000, UTC)
    told: dict[str, Any] = json.loads(text) if text else {"tables": {}, "created": made.isoformat()}
    told["tables"][building.final_name] = asdict(Pinned(uuid_of(building.table), snapshot_id, state.schema_id))
    return json.dumps(told, separators=(",", ":"))
