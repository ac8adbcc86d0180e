"""The quarantine: every raw row that is not in the request table, with its reason, batch, file and content.

Rows of a batch replace that batch's rows of an earlier try in one commit, so writing twice leaves them once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyiceberg.catalog import Catalog
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import LongType, NestedField, StringType, TimestamptzType

from lakehouse.catalog import catalog_errors, ensure_table
from lakehouse.settings import Settings
from lakehouse.spec import DatasetSpec
from spark_jobs.checks import IMPRESSION
from spark_jobs.raw import RawLog
from spark_jobs.scan import FILE, ROW
from spark_jobs.small import is_small

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from spark_jobs.merge import Known

SCHEMA = Schema(
    NestedField(1, "reason", StringType(), required=True, doc="why the row is not in the request table"),
    NestedField(2, "detail", StringType(), doc="the column at fault"),
    NestedField(3, "batch_id", StringType(), required=True, doc="the batch that brought the row"),
    NestedField(4, "file", StringType(), required=True, doc="its raw file"),
    NestedField(5, "row", LongType(), required=True, doc="its number in the file, from 0"),
    NestedField(6, "raw", StringType(), doc="the raw row as JSON, every column"),
    NestedField(7, "user_id", LongType(), doc="its user, where there is one"),
    NestedField(8, "request_id", LongType(), doc="its request, where there is one"),
    NestedField(9, "quarantined_at", TimestamptzType(), doc="when"),
    NestedField(10, "raw_schema", StringType(), doc="Spark's types of the raw row's columns"),
    NestedField(11, "replayed_by", StringType(), doc="the replay that takes it out, while that is being published"),
)
# Spark's default drops microseconds and nulls.
JSON = {
    "timestampFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX",
    "timestampNTZFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSS",
    "ignoreNullFields": "false",
}


@dataclass(frozen=True)
class Condemned:
    """Raw rows that go to quarantine: a frame of `file` (id), `row`, `reason`, `detail`, and the count by reason.

    `stored` of them are candidates of the table that late rows have overruled.
    """

    rows: DataFrame
    counts: dict[str, int]
    stored: int = 0

    @property
    def total(self) -> int:
        """How many rows."""
        return sum(self.counts.values())

    @property
    def bad(self) -> int:
        """How many of them are bad, and not merely an impression's older word."""
        return self.total - self.counts.get(IMPRESSION, 0)


def ensure_quarantine(catalog: Catalog, spec: DatasetSpec, settings: Settings) -> str:
    """The quarantine table's name, the table made where there is none."""
    name = spec.table("quarantine")
    # By batch, because replacing a batch's rows is exact only where files hold one batch.
    by_batch = PartitionSpec(PartitionField(3, 1000, IdentityTransform(), "batch"))
    # A replay changes rows of many batches, beside ingests that add theirs.
    shared = {f"write.{what}.isolation-level": "snapshot" for what in ("merge", "update", "delete")}
    properties = {"format-version": "2", "reqlake.quarantine": "1", **shared}
    table = ensure_table(catalog, name, SCHEMA, settings, partition_spec=by_batch, properties=properties)
    if len(table.schema().fields) < len(SCHEMA.fields):  # made before there were replays
        with catalog_errors(settings), table.transaction() as change:
            with change.update_schema() as schema:
                schema.union_by_name(SCHEMA)
            change.set_properties(shared)
    return name


def write_quarantine(log: RawLog, condemned: Condemned, table: str, batch_id: str, known: Known | None = None) -> None:
    """Put a batch's condemned rows into `table` (with its catalog), in place of any that the batch has there.

    Stored candidates of `known` requests that the batch overruled are among them.
    """
    from pyspark.sql import functions as F

    quoted = [F.col(f"`{c}`") for c in log.raw.columns if c not in (FILE, ROW)]
    kinds = log.raw.select(*quoted).schema.json()
    keys = log.typed.select(F.xxhash64(FILE).alias("_id"), F.col(ROW).alias("_number"), "user_id", "request_id")
    told = condemned.rows.select(F.col("file").alias("_file_id"), "row", "reason", "detail")
    few = F.broadcast if is_small(condemned.total) else (lambda frame: frame)  # or the log is shuffled for their sake
    marked = few(told).join(keys, (F.col("_file_id") == F.col("_id")) & (F.col("row") == F.col("_number")))
    marked = marked.select(F.struct(*marked.columns).alias("_m"))  # a raw column may have any of these names
    raw = log.raw.select(F.struct(*quoted).alias("_r"), FILE, ROW)
    rows = raw.join(few(marked), (F.xxhash64(FILE) == F.col("_m._id")) & (F.col(ROW) == F.col("_m._number"))).select(
        "_m.reason",
        "_m.detail",
        F.lit(batch_id).alias("batch_id"),
        F.col(FILE).alias("file"),
        F.col(ROW).alias("row"),
        F.to_json("_r", JSON).alias("raw"),
        "_m.user_id",
        "_m.request_id",
        F.current_timestamp().alias("quarantined_at"),
        F.lit(kinds).alias("raw_schema"),
        F.lit(None).cast("string").alias("replayed_by"),
    )
    if known is not None and condemned.stored:
        rows = rows.unionByName(known.condemned(condemned.rows, batch_id), allowMissingColumns=True)
    rows.writeTo(table).option("check-nullability", "false").overwrite(F.col("batch_id") == F.lit(batch_id))
