"""Whether the table of before still holds what the table of now holds: by what both say, or else by checksums."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyiceberg.table import Table

from lakehouse.settings import Settings
from lakehouse.upkeep.relayout import Record, record_of, uuid_of
from spark_jobs.checksums import checksums, differing
from spark_jobs.errors import RebucketError
from spark_jobs.rebucket_states import states_of

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


@dataclass(frozen=True)
class Pair:
    """The table of now and the one of before (or, after going back, the one that was undone)."""

    now: Table
    then: Table

    @property
    def _records(self) -> tuple[Record, bool]:
        """What the later built of the two says, and whether that is the table of now."""
        for built, other in ((self.now, self.then), (self.then, self.now)):
            record = record_of(built)
            if record is not None and record.source == uuid_of(other):
                return record, built is self.now
        raise RebucketError(
            f"{'.'.join(self.then.name())} and {'.'.join(self.now.name())} were not built from each other: there is "
            f"nothing to go back to"
        )

    @property
    def snapshots(self) -> dict[int, int]:
        """From snapshots of the table of now to those of the other that held the same rows."""
        record, forward = self._records
        pairs = {new: old for old, new in record.snapshots.items()} if forward else record.snapshots
        then = {s.snapshot_id for s in self.then.metadata.snapshots}
        refs = {s.name: s.snapshot_id for s in states_of(self.then)}
        mine = {s.snapshot_id: refs[s.name] for s in states_of(self.now) if s.name in refs}
        return {now: old for now, old in (pairs | mine).items() if old in then}

    @property
    def untouched(self) -> bool:
        """Whether both are as they were when they were compared and swapped: the same heads, the same tags."""
        record, forward = self._records
        heads = (self.then, self.now) if forward else (self.now, self.then)
        if tuple(t.metadata.current_snapshot_id for t in heads) != record.heads:
            return False
        old, new = ({s.name: s.snapshot_id for s in states_of(t)} for t in heads)
        return {name: record.snapshots.get(snapshot) for name, snapshot in old.items()} == new


def compare(spark: SparkSession, settings: Settings, pair: Pair) -> None:
    """Raises RebucketError that names the tag, branch or main in which the two do not hold the same rows."""
    now = {s.name: s.snapshot_id for s in states_of(pair.now)}
    then = {s.name: s.snapshot_id for s in states_of(pair.then)}
    name, kept = ".".join(pair.now.name()), ".".join(pair.then.name())
    if apart := sorted(now.keys() ^ then.keys()):
        where = name if apart[0] in now else kept
        raise RebucketError(
            f"only {where} has {apart[0]!r}: going back would lose it or bring it back. Drop that tag, or build the "
            f"old layout anew, which carries every tag (`reqlake rebucket --drop-kept`, then with that layout)"
        )
    for ref, snapshot_id in now.items():
        here, there = (_frame(spark, settings, t, s) for t, s in ((pair.now, snapshot_id), (pair.then, then[ref])))
        names = [field.name for field in here.schema.fields]
        if names != [field.name for field in there.schema.fields]:
            differs = ["its columns"]
        else:
            differs = differing(names, checksums(here, {}), checksums(there, {}))
        if differs:
            raise RebucketError(
                f"{ref} of {name} no longer holds what {kept} holds ({', '.join(differs[:5])}): going back would lose "
                f"what came since. Build the old layout anew instead (`reqlake rebucket --drop-kept`, then with that "
                f"layout)"
            )


def _frame(spark: SparkSession, settings: Settings, table: Table, snapshot_id: int) -> DataFrame:
    name = ".".join((settings.catalog.in_spark, *table.name()))
    return spark.read.option("versionAsOf", str(snapshot_id)).table(name)
