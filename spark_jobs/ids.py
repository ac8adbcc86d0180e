"""The ids table of a batch: which strings are new, and whether one hash has two strings.

A collision would make two users, requests or items one, so it refuses the batch. What is new is appended on a branch
that moves `main` only where nobody else has: a batch that was overtaken is done anew, so each string is there once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lakehouse.audit_branches import name_branch
from lakehouse.ids import BUCKETS, ensure_ids
from lakehouse.spec import DatasetSpec
from spark_jobs.alter import alter
from spark_jobs.errors import BatchRefusedError
from spark_jobs.publish import branch_of, drop_leftovers, publish

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table.snapshots import Snapshot
    from pyspark.sql import DataFrame, SparkSession

    from lakehouse.settings import Settings

COLUMNS = ("kind", "hash", "string")
BROADCAST_IDS = 2_000_000
ORDER = ("kind", "hash")


@dataclass(frozen=True)
class NewIds:
    """String ids of a batch that the table, as of `base`, does not have."""

    spark: SparkSession
    table: str
    base: Snapshot | None
    rows: DataFrame
    count: int

    def write(self, batch_id: str) -> None:
        """Append them in one step. Raises MainMovedError where another job wrote meanwhile."""
        if self.count:
            branch = name_branch(batch_id)
            with branch_of(self.spark, self.table, branch, self.base):
                target = f"{self.table}.branch_{branch}"
                self.rows.writeTo(target).option("check-nullability", "false").append()
                publish(self.spark, self.table, branch)
        self.rows.unpersist()


def find_new_ids(
    spark: SparkSession, catalog: Catalog, spec: DatasetSpec, settings: Settings, typed: DataFrame
) -> NewIds | None:
    """The strings of a typed raw log that the ids table does not have; None where the spec keeps none.

    Raises BatchRefusedError that names both strings where two have one hash.
    """
    if not spec.string_ids:
        return None
    table = ensure_ids(catalog, spec, settings)
    name = f"{settings.catalog.in_spark}.{spec.table('ids')}"
    if not table.sort_order().fields:
        alter(spark, name, f"WRITE DISTRIBUTED BY PARTITION LOCALLY ORDERED BY {', '.join(ORDER)}")
        table.refresh()
    drop_leftovers(spark, table, name)
    base = table.refresh().current_snapshot()
    rows = new_ids(spark, spec, typed, name, base).persist()
    return NewIds(spark, name, base, rows, rows.count())


def new_ids(spark: SparkSession, spec: DatasetSpec, typed: DataFrame, table: str, base: Snapshot | None) -> DataFrame:
    """Rows of the ids table that a typed raw log adds. Raises BatchRefusedError."""
    from pyspark.sql import functions as F

    each = [
        F.struct(F.lit(kind).alias("kind"), F.col(kind).alias("hash"), F.col(f"{kind}_raw").alias("string"))
        for kind in spec.string_ids
    ]
    found = typed.select(F.explode(F.array(*each)).alias("id")).select("id.*").where("string IS NOT NULL").distinct()
    found = found.persist()
    catalog = table.split(".", maxsplit=1)[0]
    bucket = F.expr(f"{catalog}.system.bucket({BUCKETS}, hash)").alias("bucket")
    counts = {row["bucket"]: row["count"] for row in found.groupBy(bucket).count().collect()}
    several = found.groupBy("kind", "hash").agg(F.count("*").alias("n"), F.min("string"), F.max("string"))
    _refuse(spec, several.where("n > 1").toDF("kind", "hash", "n", "a", "b"))
    if base is None:
        return found
    stored = spark.read.option("versionAsOf", str(base.snapshot_id)).table(table)
    if len(counts) < BUCKETS:
        # Iceberg pushes equality of a bucket down, but not IN.
        wanted = (f"{catalog}.system.bucket({BUCKETS}, hash) = {number}" for number in sorted(counts))
        stored = stored.where(" OR ".join(wanted) or "false")
    keys, few = found.select("kind", "hash"), sum(counts.values()) <= BROADCAST_IDS
    met = stored.join(F.broadcast(keys) if few else keys, ["kind", "hash"], "left_semi")
    known = met.withColumnRenamed("string", "known").persist()
    both = found.join(known, ["kind", "hash"])
    _refuse(spec, both.where("known <> string").select("kind", "hash", F.col("known").alias("a"), "string"))
    return found.join(known, ["kind", "hash"], "left_anti").select(*COLUMNS)


def _refuse(spec: DatasetSpec, clashes: DataFrame) -> None:
    """Raises BatchRefusedError for the first of two strings with one hash, if there are any."""
    row = next(iter(clashes.limit(1).collect()), None)
    if row is None:
        return
    kind, value, first, second = row["kind"], row["hash"], row["a"], row[-1]
    shown = "two strings (masked)" if getattr(spec.keys, kind).sensitive else f"{first!r} and {second!r}"
    raise BatchRefusedError(
        f"{kind}: {shown} have one hash, {value}, and would become one {kind.removesuffix('_id')}: nothing was "
        f"published. Give one of them another name in the log; or leave {kind} out of the spec's `ids`, and the two "
        f"are taken for one"
    )
