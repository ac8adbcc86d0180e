"""Known requests that a batch does not change: its rows of them are duplicates, or come too late.

They are found after the grouping, which decides what stays. Such a request is neither deleted nor written anew.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lakehouse.spec import DatasetSpec
from spark_jobs.checks import EVENT, SPAN
from spark_jobs.dedup import Books, Dedup
from spark_jobs.merge import KEY, Known
from spark_jobs.small import cut_off, kept

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame


def settle(dedup: Dedup) -> Dedup:
    """The batch without the requests that it leaves as they are; their duplicates are kept in the books."""
    from pyspark.sql import functions as F

    known = dedup.known
    if known is None:
        return dedup
    raw, stored = F.col("_size") - _stored(), _stored()
    untouched = _unchanged(dedup.spec, dedup.groups, known).localCheckpoint()
    mine = dedup.groups.join(F.broadcast(untouched), KEY, "left_semi")
    count = mine.agg(F.count("*").alias("rows"), F.sum(stored).alias("candidates"), F.sum(raw).alias("raw"))
    told = count.collect()[0]
    if not told["rows"]:
        return dedup
    keys = F.broadcast(untouched.select(*KEY))
    left = replace(
        known,
        keys=cut_off(known.keys.join(keys, KEY, "left_anti"), dedup.narrow_rows),
        stored=known.stored.join(keys, KEY, "left_anti"),
        narrow=known.narrow.join(keys, KEY, "left_anti"),
        rows=known.rows - told["rows"],
        candidates=known.candidates - told["candidates"],
        settled=int(told["raw"]),
    )
    groups = kept(dedup.groups.join(keys, KEY, "left_anti"), dedup.narrow_rows)
    books = Books.of(groups, left)
    dedup.groups.unpersist()
    rows = cut_off(_condemned_alone(dedup, untouched), dedup.narrow_rows)
    return replace(dedup, rows=rows, groups=groups, books=books, known=left)


def _stored() -> Column:
    """How many of a group's rows are stored candidates."""
    from pyspark.sql import functions as F

    return F.size(F.filter("_row_numbers", lambda number: number < 0))


def _unchanged(spec: DatasetSpec, groups: DataFrame, known: Known) -> DataFrame:
    """Keys and time of the known requests whose every variant is what it was.

    Stored candidates have distinct impression keys: where the batch adds none (as many stay as were stored) and no
    content but theirs (none loses), what stays is what was stored. Labels with a time are told by a checksum.
    """
    from pyspark.sql import functions as F

    same = (_stored() == F.size("item_id")) & (F.coalesce(F.size("_losing"), F.lit(0)) == 0)
    told = groups.join(F.broadcast(known.keys.select(*KEY, "_opened")), KEY)
    if spec.timed_labels:
        variant = F.col("_hash") if spec.conflict == "split" else F.lit(0).cast("bigint")
        before = known.narrow.groupBy(*KEY, variant.alias("request_hash")).agg(
            F.bit_xor(_label_sum(spec, {name: F.col(name) for name in _label_names(spec)})).alias("_before")
        )
        told = told.join(before, [*KEY, "request_hash"], "left")
        zipped = F.arrays_zip(*[F.col(name) for name in _label_names(spec)])
        after = F.aggregate(
            zipped,
            F.lit(0).cast("bigint"),
            lambda total, x: total.bitwiseXOR(_label_sum(spec, {name: x[name] for name in _label_names(spec)})),
        )
        same = same & F.coalesce(F.col("_before") == after, F.lit(False))
    same = same & (F.col("request_ts") == F.col("_opened"))
    all_same = told.groupBy(*KEY, "_opened").agg(F.bool_and(same).alias("_same"))
    return all_same.where("_same").select(*KEY, "_opened")


def _label_names(spec: DatasetSpec) -> list[str]:
    labels = [name for label in spec.timed_labels for name in (label, f"{label}_time")]
    return ["item_id", *(["position"] if spec.impression_key == "position" else []), *labels]


def _label_sum(spec: DatasetSpec, values: dict[str, Column]) -> Column:
    """A hash of one candidate's key and labels with a time; nulls are told apart by where they stand."""
    from pyspark.sql import functions as F

    parts = [part for name in _label_names(spec) for part in (values[name].isNull(), values[name])]
    return F.xxhash64(*parts)


def _condemned_alone(dedup: Dedup, untouched: DataFrame) -> DataFrame:
    """The batch's rows without those of unchanged requests, but for the ones that are condemned.

    Rows that the grouping found too late, or with an event that the request's time does not allow, say so themselves.
    """
    from pyspark.sql import functions as F

    span = F.lit(int(dedup.spec.request_span.total_seconds() * 1_000_000))
    told = dedup.rows.join(F.broadcast(untouched), KEY, "left")
    late = F.unix_micros("request_ts") > F.unix_micros("_opened") + span
    fault = F.coalesce(
        "_fault",
        F.when(late, F.struct(F.lit(SPAN).alias("reason"), F.lit("request_ts").alias("column"))),
        F.when(
            F.col("_newest") >= F.col("_opened"),
            F.struct(F.lit(EVENT).alias("reason"), F.lit("newest event").alias("column")),
        ),
    )
    rows = told.withColumn("_fault", fault)
    return rows.where("_opened IS NULL OR _fault IS NOT NULL").drop("_opened")
