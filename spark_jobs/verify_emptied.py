"""Columns that retention has emptied: verify's raw side then expects what the table is to hold in their place."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from lakehouse.spec import DatasetSpec, FeatureType
from spark_jobs.column_retention import emptied_value
from spark_jobs.columns import SPARK
from spark_jobs.fingerprint import fingerprint

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

Emptied = dict[str, datetime]
"""By column: the time before which requests have lost its values, as the table says."""


def without_emptied(spec: DatasetSpec, rows: DataFrame, requests: DataFrame, emptied: Emptied) -> DataFrame:
    """The raw side's rows with the hash of what an emptied column holds in the place of `h_<column>`."""
    from pyspark.sql import functions as F

    if not emptied:
        return rows
    hashes = _hashes(spec, requests, emptied)
    opened = requests.groupBy("user_id", "request_id").agg(F.min("request_ts").alias("_period"))
    joined = rows.join(opened, ["user_id", "request_id"], "left")
    at = F.coalesce("_period", "request_ts")
    return joined.withColumns(
        {f"h_{n}": F.when(at < F.lit(cut), F.lit(hashes[n])).otherwise(F.col(f"h_{n}")) for n, cut in emptied.items()}
    ).drop("_period")


def hashable(spec: DatasetSpec, emptied: Emptied) -> Column:
    """Whether a request still has all the features that its `request_hash` was made of."""
    from pyspark.sql import functions as F

    cuts = [emptied[c.name] for c in spec.columns("request", "sequence") if c.name in emptied]
    return F.col("request_ts") >= F.lit(max(cuts)) if cuts else F.lit(True)


def _hashes(spec: DatasetSpec, requests: DataFrame, emptied: Emptied) -> dict[str, int]:
    """The fingerprint of what an emptied column holds, by column; computed by Spark, as those of values are."""
    kinds = {name: spec.column(name).type for name in emptied}
    literals = [emptied_value(spec.column(n)).cast(_spark_type(t)).alias(n) for n, t in kinds.items()]
    one = requests.sparkSession.range(1).select(*literals)
    row = one.select(*[fingerprint({n: t}).alias(n) for n, t in kinds.items()]).collect()[0]
    return {name: row[name] for name in kinds}


def _spark_type(kind: FeatureType) -> str:
    return SPARK[kind.element] if kind.shape == "scalar" else f"array<{SPARK[kind.element]}>"
