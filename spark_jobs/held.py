"""Held rows as a raw log again: their text parsed into the types that the raw files had, or left where it is not exact.

What a text gives is written as text once more; only where that is the very text is the row taken. The writer gives two
values two texts (a float its shortest decimal, a time its microseconds, bytes in Base64), so nothing is lost.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lakehouse.spec import DatasetSpec
from spark_jobs.checks import IMPRESSION
from spark_jobs.files import RawFile
from spark_jobs.label_batch import MEMBER as OF_LABELS
from spark_jobs.quarantine import JSON
from spark_jobs.raw import RawLog, log_of
from spark_jobs.scan import FILE, ROW

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

KEY = ("batch_id", "file", "row")
OVERRULED = "was in the table until a later row overruled it"
TYPELESS = "was held before its raw types were kept: ingest its file again"
INEXACT = "its text does not give back the very values: ingest its file again"
LABELS = "is of a file of labels: mend that file, and ingest it with --labels"
OLDER = "is an impression's older word (replay it with --reason impression_conflict)"


@dataclass(frozen=True)
class Held:
    """Rows of one raw schema: as a raw log, and where each is held (`places`: batch_id, file, row, `_file`).

    `identity` names the rows and their content, in any order.
    """

    log: RawLog
    places: DataFrame
    parsed: DataFrame
    identity: str

    def release(self) -> None:
        """Drop what was cached."""
        self.parsed.unpersist()


def select_held(
    quarantine: DataFrame, published: Mapping[str, set[str]], *, reason: str | None, batch_id: str | None
) -> tuple[DataFrame, dict[str, int]]:
    """Rows that can be tried again, and how many of those asked for cannot, by why. `published`: members by batch.

    Rows of a batch that is not published are none of both: its own ingest writes them anew.
    """
    from pyspark.sql import functions as F

    spark = quarantine.sparkSession
    known = [(batch, any(m.startswith(OF_LABELS) for m in members)) for batch, members in sorted(published.items())]
    batches = spark.createDataFrame(known, "batch_id string, _labels boolean")
    asked = quarantine.join(F.broadcast(batches), "batch_id")
    for name, value in (("reason", reason), ("batch_id", batch_id)):
        if value is not None:
            asked = asked.where(F.col(name) == F.lit(value))
    older = F.lit(reason is None) & (F.col("reason") == F.lit(IMPRESSION))
    why = F.coalesce(
        F.when(F.col("_labels"), LABELS),
        F.when(F.col("row") < 0, OVERRULED),
        F.when(older, OLDER),
        F.when(F.col("raw_schema").isNull(), TYPELESS),
    )
    told = asked.withColumn("_why", why)
    left = told.where("_why IS NOT NULL").groupBy("_why").count().collect()
    return told.where("_why IS NULL").drop("_why", "_labels"), {row["_why"]: row["count"] for row in left}


def open_held(spec: DatasetSpec, rows: DataFrame) -> tuple[list[Held], int]:
    """The rows as raw logs, one for each raw schema, and how many have a text that is not exact."""
    schemas = sorted(row["raw_schema"] for row in rows.select("raw_schema").distinct().collect())
    found, inexact = [], 0
    for text in schemas:
        held, unlike = _open(spec, rows.where(rows["raw_schema"] == text), text)
        inexact += unlike
        if held is not None:
            found.append(held)
    return found, inexact


def _open(spec: DatasetSpec, rows: DataFrame, text: str) -> tuple[Held | None, int]:
    from pyspark.sql import functions as F
    from pyspark.sql import types as T
    from pyspark.sql.pandas.types import to_arrow_schema

    schema = T.StructType.fromJson(json.loads(text))
    parsed = rows.select(
        *KEY,
        F.concat_ws(" ", "batch_id", "file").alias(FILE),  # a path may lie in two batches, with other content
        F.col("row").alias(ROW),
        F.from_json("raw", schema, JSON).alias("_r"),
        F.xxhash64(*KEY, "raw").alias("_content"),
        "raw",
    )
    parsed = parsed.withColumn("_exact", F.to_json("_r", JSON).eqNullSafe(F.col("raw"))).drop("raw").persist()
    exact = parsed.where("_exact")
    books = parsed.agg(
        F.count_if("_exact").alias("rows"),
        F.count_if(~F.col("_exact")).alias("inexact"),
        F.sum(F.when(F.col("_exact"), F.col("_content").cast("decimal(38,0)"))).alias("sum"),
        F.bit_xor(F.when(F.col("_exact"), F.xxhash64(F.lit("x"), "_content"))).alias("xor"),
    ).collect()[0]
    if not books["rows"]:
        parsed.unpersist()
        return None, int(books["inexact"])
    name = f"{text}\n{books['rows']} {books['sum']} {books['xor']}"
    identity = hashlib.sha256(name.encode()).hexdigest()
    like = RawFile(spec.table("quarantine"), 0, identity, int(books["rows"]), to_arrow_schema(schema))
    log = log_of(spec, [like], exact.select(F.col("_r.*"), FILE, ROW))
    return Held(log, exact.select(*KEY, FILE), parsed, identity), int(books["inexact"])
