"""A range of snapshots that changed rows: the requests that it touches are made anew of the source's present rows.

Both ends of the range are compared within the source's touched partitions, row by row as the spec sees them, so that a
compaction in between touches nothing. Of every request of a row that came, went or changed, all present rows are taken
as one batch; its stored rows are taken out in the same commit. What the request table has of such a request from
elsewhere is told apart: late labels are kept, impressions that the source never had refuse the batch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pyiceberg.table import Table
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import BooleanType, IntegerType, LongType, StringType

from lakehouse.errors import FormatError
from lakehouse.spec import DatasetSpec
from lakehouse.upkeep.health import partition_condition
from spark_jobs.errors import BatchRefusedError
from spark_jobs.labels import KEY, impression_key
from spark_jobs.merge import Known
from spark_jobs.raw import RawLog
from spark_jobs.scan import FILE, ROW
from spark_jobs.snapshots import Span, writers

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

PLAIN = (StringType, LongType, IntegerType, BooleanType)
CONTENT = "_content"
NO_REQUEST = "user_id IS NULL OR request_id IS NULL OR request_ts IS NULL"


@dataclass(frozen=True)
class Change:
    """What a range changed. `keys`: user_id, request_id, request_ts of the rows that came or went, in memory.

    `log`: all present rows of these requests. `told`: their typed rows at both ends, which are all that the source has
    told of them.
    """

    keys: DataFrame
    log: RawLog
    told: DataFrame

    def released(self, spec: DatasetSpec, known: Known | None) -> tuple[Known | None, DataFrame | None]:
        """The stored requests as ones to take out, and labels of theirs that came otherwise, as entries.

        `known` are the stored requests of `keys`. Raises BatchRefusedError that names an impression of theirs which
        the source has never told.
        """
        from pyspark.sql import functions as F

        if known is None:
            return None, None
        key = [*KEY, *impression_key(spec)]
        foreign = known.narrow.select(*key).join(self.told.select(*key).distinct(), key, "left_anti")
        self._refuse(spec, foreign, known)
        labels = None
        if spec.timed_labels:
            own = _entries(spec, known.narrow)
            labels = own.join(_entries(spec, self.told), own.columns, "left_anti").localCheckpoint()
        gone = replace(
            known,
            keys=known.keys.withColumn("_after", F.lit(None).cast("timestamp")),
            narrow=known.narrow.where("false"),
            candidates=0,
        )
        return gone, labels

    def _refuse(self, spec: DatasetSpec, foreign: DataFrame, known: Known) -> None:
        from pyspark.sql import functions as F

        found = foreign.agg(F.count("*").alias("n"), F.min_by(F.struct(*foreign.columns), "request_id").alias("one"))
        row = found.collect()[0]
        if not row["n"]:
            return
        shown = ", ".join(
            f"{name} {'***' if getattr(spec.keys, name).sensitive else row['one'][name]}"
            for name in ("user_id", "request_id", "item_id")
        )
        raise BatchRefusedError(
            f"the range changes requests of which {known.table} has {row['n']:,} impressions that the source did not "
            f"tell ({shown}): files or another table brought them, and taking the requests anew would lose them. "
            f"Nothing was published. Bring them into the source first; or erase or backfill what the range changed, "
            f"and go on behind it with --from-snapshot"
        )


def change_of(spec: DatasetSpec, before: RawLog, after: RawLog, present: RawLog) -> Change:
    """The change between the touched partitions `before` and `after`; `present` is all of the source at the end.

    Present rows are looked for within `key_horizon` around the rows that changed.
    """
    from pyspark.sql import functions as F

    old, new = (_with_content(side.typed) for side in (before, after))
    columns = [*KEY, "request_ts", CONTENT]
    both = new.select(*columns, F.lit(1).alias("n")).unionByName(old.select(*columns, F.lit(-1).alias("n")))
    differing = both.groupBy(*columns).agg(F.sum("n").alias("n")).where("n <> 0").localCheckpoint()
    keys = differing.dropna().select(*KEY, "request_ts").distinct().localCheckpoint()
    requests = F.broadcast(keys.select(*KEY).distinct())
    rows = _near(spec, present.typed, keys).join(requests, KEY, "left_semi")
    # New rows without a key or a time are of no request, and go to quarantine as those of any batch do.
    keyless = differing.where(f"n > 0 AND ({NO_REQUEST})").select(CONTENT)
    lost = new.where(NO_REQUEST).join(F.broadcast(keyless), CONTENT, "left_semi")
    taken = rows.unionByName(lost.drop(CONTENT))
    told = rows.unionByName(before.typed.join(requests, KEY, "left_semi"))
    count = taken.count()
    files = [replace(file, rows=count) for file in present.files[:1]]
    return Change(keys, replace(present, files=files, typed=taken), told)


def touched_where(table: Table, span: Span, catalog: str) -> str:
    """Spark SQL of the partitions that a span wrote to; `true` where they cannot be told by a condition."""
    snapshots = writers(table, span)
    ids = {snapshot.snapshot_id for snapshot in snapshots}
    touched = set()
    for snapshot in snapshots:
        for manifest in snapshot.manifests(table.io):
            if manifest.added_snapshot_id not in ids:
                continue
            for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=False):
                if entry.snapshot_id in ids:
                    values = entry.data_file.partition
                    touched.add((manifest.partition_spec_id, tuple(values[i] for i in range(len(values)))))
    if not all(_tellable(table, span, spec_id) for spec_id, _ in touched):
        return "true"
    try:
        conditions = sorted({partition_condition(table, catalog, *partition) for partition in touched})
    except FormatError:
        return "true"
    return " OR ".join(f"({condition})" for condition in conditions) or "false"


def _tellable(table: Table, span: Span, spec_id: int) -> bool:
    """Whether the values of a partition can be written as literals, and its columns had their names before."""
    ends = [table.snapshot_by_id(end) for end in (span.after or 0, span.to)]
    now, schemas = table.schema(), [table.schemas().get(end.schema_id or 0) if end else None for end in ends]
    for field in table.specs()[spec_id].fields:
        name = now.find_column_name(field.source_id)
        if name is None or any(s is None or s.find_column_name(field.source_id) != name for s in schemas):
            return False
        if isinstance(field.transform, IdentityTransform) and not isinstance(now.find_type(name), PLAIN):
            return False
    return True


def _with_content(typed: DataFrame) -> DataFrame:
    """Typed rows with a hash of all that the spec sees of them, and not of where they lie."""
    from pyspark.sql import functions as F

    names = [name for name in typed.columns if name not in (FILE, ROW)]
    # Nulls leave the hash as it is: where they stand is told apart.
    return typed.withColumn(CONTENT, F.xxhash64(*[part for n in names for part in (F.col(n).isNull(), F.col(n))]))


def _near(spec: DatasetSpec, typed: DataFrame, keys: DataFrame) -> DataFrame:
    """Rows within `key_horizon` of the changed ones."""
    from pyspark.sql import functions as F

    ends = keys.agg(F.min("request_ts").alias("first"), F.max("request_ts").alias("last")).collect()[0]
    if ends["first"] is None:
        return typed.where("false")
    horizon = max(spec.key_horizon, spec.request_span)
    return typed.where(F.col("request_ts").between(F.lit(ends["first"] - horizon), F.lit(ends["last"] + horizon)))


def _entries(spec: DatasetSpec, rows: DataFrame) -> DataFrame:
    """The labels with a time of narrow rows, as entries (spark_jobs/labels.py)."""
    from pyspark.sql import functions as F

    each = [
        F.struct(F.lit(n).alias("label"), F.col(n).cast("string").alias("value"), F.col(f"{n}_time").alias("time"))
        for n in spec.timed_labels
    ]
    spread = rows.select(*KEY, *impression_key(spec), F.explode(F.array(*each)).alias("_e"))
    return spread.select(*KEY, *impression_key(spec), "_e.*").where("value IS NOT NULL AND time IS NOT NULL").distinct()
