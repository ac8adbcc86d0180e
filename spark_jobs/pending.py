"""Labels that wait for their impression: kept by a batch of labels, applied by the ingest that brings the impression.

A batch of labels writes what waits before it publishes, and always publishes, if only an empty snapshot; an ingest
reads what waits after it has looked at main. So of two at once that concern one impression, the second finds main
moved, and looks again. What was applied is taken out afterwards; where that did not come to pass it does no harm, since
a label that is told twice changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError

from lakehouse.catalog import catalog_errors
from lakehouse.errors import LeaseError
from lakehouse.lease import maintenance_lease
from lakehouse.pending import SCHEMA, ensure_pending
from lakehouse.settings import Settings
from lakehouse.spec import DatasetSpec
from spark_jobs.labels import KEY, applies, impression_key
from spark_jobs.quarantine import JSON, ensure_quarantine
from spark_jobs.raw import RawLog
from spark_jobs.scan import FILE, ROW

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

APPLIED_VIEW = "reqlake_applied_labels"
UNMATCHED = "label_without_impression"
CONFLICT = ("conflict", "CommitFailedException", "Cannot commit", "Found new")


@dataclass(frozen=True)
class Pending:
    """Waiting labels of a batch's requests, as entries."""

    spark: SparkSession
    spec: DatasetSpec
    table: str
    entries: DataFrame

    def take_out(self, groups: DataFrame) -> bool:
        """Delete the entries whose impression is now among `groups`; whether that could be done.

        A job that writes there at the same time may keep it from being done: what is left is told at `label_horizon`.
        """
        from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]
        from pyspark.errors import PySparkException
        from pyspark.sql import functions as F

        key = [*KEY, *impression_key(self.spec)]
        done = self.entries.join(impressions(self.spec, groups), key)
        done = done.where(applies(self.spec, F.col("time"), F.col("request_ts")))
        done.select(*key, "label", "time").distinct().createOrReplaceTempView(APPLIED_VIEW)
        names = ", ".join((*key, "label", "time"))
        try:
            self.spark.sql(f"DELETE FROM {self.table} WHERE ({names}) IN (SELECT {names} FROM {APPLIED_VIEW})")
        except (PySparkException, Py4JJavaError) as error:
            if not any(mark in str(error) for mark in CONFLICT):
                raise
            return False
        finally:
            self.spark.catalog.dropTempView(APPLIED_VIEW)
        return True


def impressions(spec: DatasetSpec, requests: DataFrame) -> DataFrame:
    """The impressions of request rows: key, and the request's time."""
    from pyspark.sql import functions as F

    key = impression_key(spec)
    rows = requests.select(*KEY, "request_ts", F.explode(F.arrays_zip(*key)).alias("_one"))
    return rows.select(*KEY, "request_ts", *[F.col(f"_one.{name}").alias(name) for name in key]).distinct()


def find_pending(
    spark: SparkSession, catalog: Catalog, spec: DatasetSpec, settings: Settings, groups: DataFrame
) -> Pending | None:
    """The labels that wait for requests of `groups`; None where there are none."""
    from pyspark.sql import functions as F

    head = _head(catalog, spec, settings) if spec.timed_labels else None
    if head is None:
        return None
    name = f"{settings.catalog.in_spark}.{spec.table('pending_labels')}"
    keys = F.broadcast(groups.select(*KEY).distinct())
    known = spark.read.option("versionAsOf", head).table(name).where(F.col("label").isin(*spec.timed_labels))
    entries = known.join(keys, KEY, "left_semi").select(*KEY, *impression_key(spec), "label", "value", "time").persist()
    if entries.isEmpty():
        entries.unpersist()
        return None
    return Pending(spark, spec, name, entries)


def _head(catalog: Catalog, spec: DatasetSpec, settings: Settings) -> str | None:
    """The snapshot of the waiting labels, if there is one with rows."""
    with catalog_errors(settings):
        try:
            head = catalog.load_table(spec.table("pending_labels")).current_snapshot()
        except NoSuchTableError:
            return None
    told = head.summary.additional_properties if head is not None and head.summary else {}
    return None if head is None or told.get("total-records") == "0" else str(head.snapshot_id)


def write_pending(spec: DatasetSpec, waiting: DataFrame, raw: RawLog, table: str, batch_id: str) -> None:
    """Put the entries of a batch that wait into `table` (with its catalog), in place of any that it has there."""
    from pyspark.sql import functions as F

    theirs = F.col("batch_id") == F.lit(batch_id)
    if waiting.isEmpty() and waiting.sparkSession.table(table).where(theirs).isEmpty():
        return
    columns = [F.col(f"`{c}`") for c in raw.raw.columns if c not in (FILE, ROW)]
    lines = raw.raw.select(FILE, ROW, F.to_json(F.struct(*columns), JSON).alias("raw"))
    told = waiting.join(lines, [FILE, ROW])
    own = {
        "position": F.col("position") if "position" in impression_key(spec) else F.lit(None).cast("int"),
        "batch_id": F.lit(batch_id),
        "file": F.col(FILE),
        "row": F.col(ROW),
        "waiting_since": F.current_timestamp(),
    }
    rows = told.select(*[own.get(f.name, F.col(f.name)).alias(f.name) for f in SCHEMA.fields])
    rows.writeTo(table).option("check-nullability", "false").overwrite(theirs)


def overdue(
    spark: SparkSession, catalog: Catalog, spec: DatasetSpec, settings: Settings, before: datetime
) -> DataFrame | None:
    """Labels that have waited since before a time, every column; None where there are none."""
    from pyspark.sql import functions as F

    ensure_pending(catalog, spec, settings)
    head = _head(catalog, spec, settings)
    if head is None:
        return None
    name = f"{settings.catalog.in_spark}.{spec.table('pending_labels')}"
    rows = spark.read.option("versionAsOf", head).table(name).where(F.col("waiting_since") < F.lit(before)).persist()
    if rows.isEmpty():
        rows.unpersist()
        return None
    return rows


def drop_overdue(
    spark: SparkSession, catalog: Catalog, spec: DatasetSpec, settings: Settings, *, lost: DataFrame, before: datetime
) -> bool:
    """Put overdue labels without an impression into quarantine, once, and take out all that are overdue.

    Whether it was done: it is done under the dataset's lease, so that two jobs do not report them twice; where another
    job holds that, the next batch of labels does it.
    """
    from pyspark.sql import functions as F

    quarantine = f"{settings.catalog.in_spark}.{ensure_quarantine(catalog, spec, settings)}"
    place = ["batch_id", "file", "row", "detail"]
    # Without the checkpoint Spark 4.1's optimizer collapses the projections to a plan that it then refuses.
    rows = (
        lost.select(
            F.lit(UNMATCHED).alias("reason"),
            F.col("label").alias("detail"),
            "batch_id",
            "file",
            "row",
            "raw",
            *KEY,
            F.current_timestamp().alias("quarantined_at"),
            F.lit(None).cast("string").alias("raw_schema"),
            F.lit(None).cast("string").alias("replayed_by"),
        )
        .dropDuplicates(place)
        .localCheckpoint()
    )
    try:
        with maintenance_lease(catalog, spec, settings, "labels"):
            told = spark.table(quarantine).where(F.col("reason") == UNMATCHED).select(*place)
            rows.join(told, place, "left_anti").select(*rows.columns).writeTo(quarantine).option(
                "check-nullability", "false"
            ).append()
            spark.sql(
                f"DELETE FROM {settings.catalog.in_spark}.{spec.table('pending_labels')} "
                f"WHERE waiting_since < timestamp_micros({round(before.timestamp() * 1_000_000)})"
            )
    except LeaseError:
        return False
    return True
