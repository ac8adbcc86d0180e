"""On which request features the rows of one request disagree, and how many rows: a scan made only where some do.

A stored request counts as what it is compared with: a late row may differ from it. Only rows of the batch are counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakehouse.spec import DatasetSpec, FeatureType
from spark_jobs.direct import HASHES, with_fingerprint
from spark_jobs.fingerprint import fingerprint
from spark_jobs.merge import STORED_WINNER, Known, stored_place
from spark_jobs.narrow import WINNER, Grouping, request_columns
from spark_jobs.scan import FILE, ROW
from spark_jobs.small import kept

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from spark_jobs.dedup import Dedup

KEY = ("user_id", "request_id")


def count_conflicts(spec: DatasetSpec, dedup: Dedup) -> dict[str, int]:
    """Rows that differ, by column, from the row that ranks first in their request."""
    from pyspark.sql import functions as F

    variants = _variants(spec, dedup)
    columns = request_columns(spec)
    place = (F.xxhash64(FILE).alias(WINNER[0]), F.col(ROW).alias(WINNER[1]))
    if dedup.log.direct is not None:
        variants = kept(variants, dedup.narrow_rows)
        wide = dedup.log.fingerprints(variants.select(*WINNER)).select(*place, F.col(HASHES).alias("hashes"))
    else:
        hashes = F.array(*[fingerprint({name: kind}) for name, kind in columns.items()])
        wide = dedup.log.typed.select(*place, hashes.alias("hashes"))
    if dedup.known is not None:
        wide = wide.unionByName(_stored(dedup.known, variants, columns, direct=dedup.log.direct is not None))
    seen = wide.join(F.broadcast(variants), list(WINNER))
    best = F.max_by("hashes", "_first")
    told = seen.groupBy(*KEY).agg(best.alias("best"), F.collect_list(F.struct("hashes", "n")).alias("all"))
    each = told.select("best", F.explode("all").alias("v"))
    sums = [
        F.sum(F.when(F.col("v.hashes")[i] != F.col("best")[i], F.col("v.n")).otherwise(0)).alias(name)
        for i, name in enumerate(columns)
    ]
    row = each.agg(*sums).collect()[0]
    return {name: int(row[name]) for name in columns if row[name]}


def _stored(known: Known, variants: DataFrame, columns: dict[str, FeatureType], *, direct: bool) -> DataFrame:
    """The fingerprints of stored rows that supply a variant, taken as those of the raw rows are."""
    from pyspark.sql import functions as F

    places = variants.where(STORED_WINNER).select(*WINNER)
    rows = known.stored.select(stored_place().alias(WINNER[0]), *columns).join(F.broadcast(places), WINNER[0])
    if not direct:
        hashes = F.array(*[fingerprint({name: kind}) for name, kind in columns.items()])
        return rows.select(*WINNER, hashes.alias("hashes"))
    taken = {name: known.spec.column(name) for name in columns}
    return with_fingerprint(rows, taken, "hashes", drop=tuple(columns), each=True).select(*WINNER, "hashes")


def _variants(spec: DatasetSpec, dedup: Dedup) -> DataFrame:
    """A row for each variant of requests that have several, how many raw rows are like it, and which ranks first."""
    from pyspark.sql import functions as F

    if spec.conflict == "split" and dedup.known is None:
        several = dedup.groups.groupBy(*KEY).count().where("count > 1").select(*KEY)
        return dedup.groups.join(several, list(KEY), "left_semi").select(
            *KEY, *WINNER, F.col("_size").alias("n"), F.when(F.col("_conflicting") == 0, 1).otherwise(0).alias("_first")
        )
    how = Grouping.of(spec)
    by = (*how.place, *how.rank) if spec.conflict == "first" else how.rank
    row = F.struct(*dict.fromkeys((*by, "_rank", "_file_id", "_row_number")))
    best = (F.min if spec.conflict == "first" else F.max)(row)
    count = F.count_if(F.col("_row_number") >= 0)
    variants = _in_time(spec, dedup).groupBy(*KEY, "_hash").agg(best.alias("best"), count.alias("n"))
    firsts = variants.groupBy(*KEY).agg(
        (F.min if spec.conflict == "first" else F.max)("best").alias("request_best"), F.count("*").alias("of")
    )
    return variants.join(firsts.where("of > 1"), list(KEY)).select(
        *KEY,
        F.col("best._file_id").alias(WINNER[0]),
        F.col("best._row_number").alias(WINNER[1]),
        "n",
        (F.col("best") == F.col("request_best")).cast("int").alias("_first"),
    )


def _in_time(spec: DatasetSpec, dedup: Dedup) -> DataFrame:
    """The rows that the grouping kept."""
    from pyspark.sql import functions as F

    span = F.lit(int(spec.request_span.total_seconds() * 1_000_000))
    opened = dedup.groups.select(*KEY, F.col("request_ts").alias("_opened")).distinct()
    rows = dedup.rows.where(F.col("_fault").isNull()).join(F.broadcast(opened), list(KEY))
    late = F.unix_micros("request_ts") > F.unix_micros("_opened") + span
    return rows.where(~late & ~F.coalesce(F.col("_newest") >= F.col("_opened"), F.lit(False)))
