"""Late impressions of known requests: their stored candidates join the batch as narrow rows and are grouped with it.

A stored candidate is a raw row like any other, but for where it lies: `_file_id` names its row of the table and
`_row_number` is -1 - its place there, so `_row_number < 0` tells it from a raw row. What the grouping decides is then
what one batch of all rows would have decided. The touched rows are deleted and written anew on one branch, which is
published at once. Only keys of touched partitions are read to find them, and no other data file is written.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from lakehouse.spec import DatasetSpec
from spark_jobs.checks import SPAN, newest_event
from spark_jobs.direct import with_fingerprint
from spark_jobs.fingerprint import fingerprint
from spark_jobs.narrow import WINNER, request_columns, row_columns, row_rank
from spark_jobs.quarantine import JSON
from spark_jobs.small import cut_off

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

KEY = ["user_id", "request_id"]
STORED_WINNER = f"{WINNER[1]} < 0"
NOW = "_hash_now"
TOUCHED_VIEW = "reqlake_touched_requests"
Reach = tuple[timedelta, timedelta]
"""How far before and after a time its request may have opened."""
NO_REACH: Reach = (timedelta(0), timedelta(0))


@dataclass(frozen=True)
class Known:
    """Requests of a batch that the table holds already, as of one snapshot.

    `keys`: theirs, with `_opened`, their time, and `_after`: rows of the batch before that are out of reach. `stored`:
    their rows, every column. `narrow`: their candidates as narrow rows. `rows`, `candidates`: how many. `where`: Spark
    SQL of the partitions that hold them. `cached`: what `release` drops. `settled`: duplicates of the batch whose
    requests do not change, and are not among these any more (spark_jobs/settle.py).
    """

    spec: DatasetSpec
    table: str
    snapshot_id: int
    where: str
    keys: DataFrame
    stored: DataFrame
    narrow: DataFrame
    rows: int
    candidates: int
    cached: tuple[DataFrame, ...]
    settled: int = 0

    @property
    def place(self) -> str:
        """What the quarantine gives as the file of a stored candidate."""
        return f"{self.table}@{self.snapshot_id}"

    def joined(self, rows: DataFrame) -> DataFrame:
        """The batch's narrow rows and the stored candidates; rows too far before their request are condemned.

        A stored row's time does not give way: it is the raw row `request_span` before it that does. Under `first` and
        `latest` the features of overruled rows are gone, so a row that would open the request before the stored
        history ends is out of reach as well; under `split` the variant with that history goes to quarantine.
        """
        from pyspark.sql import functions as F

        told = rows.join(F.broadcast(self.keys), KEY, "left")
        far = F.struct(F.lit(SPAN).alias("reason"), F.lit("request_ts").alias("column"))
        fault = F.coalesce("_fault", F.when(F.col("request_ts") < F.col("_after"), far))
        return told.withColumn("_fault", fault).drop("_after", "_opened").unionByName(self.narrow)

    def complete(self, groups: DataFrame) -> DataFrame:
        """Rows of the request table for groups whose features a stored row supplies, with its place and `_fault`."""
        from pyspark.sql import functions as F

        names = [c.name for c in self.spec.columns()]
        wide = self.stored.select(*KEY, stored_place().alias(WINNER[0]), *_supplied(self.spec))
        own = [c for c in groups.columns if not c.startswith("_")]
        joined = wide.join(F.broadcast(groups.select(*own, *WINNER)), [*KEY, WINNER[0]])
        fault = F.lit(None).cast("struct<reason: string, column: string>")
        return joined.select(*names, *WINNER, fault.alias("_fault"))

    def kept_hashes(self, requests: DataFrame) -> DataFrame:
        """The requests with the `request_hash` that each stored variant has had: a key stays for good."""
        from pyspark.sql import functions as F

        if NOW not in self.stored.columns:
            return requests
        kept = self.stored.groupBy(*KEY, F.col(NOW).alias("request_hash")).agg(F.min("request_hash").alias("_kept"))
        told = requests.join(F.broadcast(kept), [*KEY, "request_hash"], "left")
        return told.withColumn("request_hash", F.coalesce("_kept", "request_hash")).select(*requests.columns)

    def condemned(self, places: DataFrame, batch_id: str) -> DataFrame:
        """Quarantine rows of stored candidates that late rows have overruled; `places`: file, row, reason, detail."""
        from pyspark.sql import functions as F

        lists = [c.name for c in self.spec.columns() if c.per_candidate]
        rest = [c.name for c in self.spec.columns() if not c.per_candidate]
        rows = self.stored.select(*rest, stored_place().alias("_file_id"), _exploded(lists))
        rows = rows.select(
            *KEY,
            F.col("_file_id").alias("file"),
            (-1 - F.col("_index")).alias("row"),
            F.to_json(F.struct(*rest, *[F.col(f"_candidate.{n}").alias(n) for n in lists]), JSON).alias("raw"),
        )
        marked = places.where("row < 0").select("file", F.col("row").cast("int"), "reason", "detail")
        return rows.join(F.broadcast(marked), ["file", "row"]).select(
            "reason",
            "detail",
            F.lit(batch_id).alias("batch_id"),
            F.lit(self.place).alias("file"),
            F.col("row").cast("bigint").alias("row"),
            "raw",
            *KEY,
            F.current_timestamp().alias("quarantined_at"),
        )

    def delete(self, spark: SparkSession, target: str) -> None:
        """Delete the touched rows on a branch."""
        delete_requests(spark, target, self.where, self.keys)

    def release(self) -> None:
        """Drop what was cached."""
        for frame in self.cached:
            frame.unpersist()


def delete_requests(spark: SparkSession, target: str, where: str, keys: DataFrame) -> None:
    """Delete requests by key on a branch: position deletes, no data file is written (docs/decisions/0007)."""
    keys.createOrReplaceTempView(TOUCHED_VIEW)
    try:
        spark.sql(
            f"DELETE FROM {target} WHERE ({where}) AND "
            f"(user_id, request_id) IN (SELECT user_id, request_id FROM {TOUCHED_VIEW})"
        )
    finally:
        spark.catalog.dropTempView(TOUCHED_VIEW)


def find_keys(
    spec: DatasetSpec, batch: DataFrame, frame: DataFrame, catalog: str, reach: Reach
) -> tuple[DataFrame, int] | None:
    """Key and time of the stored rows of a batch's requests, in memory, and how many; None where there are none.

    `batch` has user_id, request_id and request_ts; `frame` is the request table. Keys alone are read, of the batch's
    buckets and the periods within `reach` of its times.
    """
    batch = batch.dropna().distinct().persist()
    near = frame.where(touched_partitions(spec, batch, catalog, reach))
    # A checkpoint cuts off the batch's plan, which every later step would plan again.
    met = near.select(*KEY, "request_ts").join(batch.select(*KEY).distinct(), KEY, "left_semi").localCheckpoint()
    rows = met.count()
    batch.unpersist()
    return (met, rows) if rows else None


def find_known(spark: SparkSession, spec: DatasetSpec, batch: DataFrame, table: str, snapshot_id: int) -> Known | None:
    """The requests of a batch that the table holds; None where there are none.

    `batch` has user_id, request_id and request_ts of its rows; `table` is named with its catalog. They are looked for
    by their keys alone, in the periods within `key_horizon` of the batch's rows.
    """
    from pyspark.sql import functions as F

    catalog = table.split(".", maxsplit=1)[0]
    frame = spark.read.option("versionAsOf", str(snapshot_id)).table(table)
    horizon = max(spec.key_horizon, spec.request_span)
    found = find_keys(spec, batch, frame, catalog, (horizon, horizon))
    if found is None:
        return None
    met, rows = found
    where = touched_partitions(spec, met, catalog, NO_REACH)
    after = F.timestamp_micros(F.unix_micros("_opened") - F.lit(_micros(spec)))
    keys = cut_off(met.groupBy(*KEY).agg(F.min("request_ts").alias("_opened")).withColumn("_after", after), rows)
    stored = frame.where(where).join(F.broadcast(keys.select(*KEY)), KEY, "left_semi")
    newest = newest_event(spec)
    if spec.conflict != "split" and newest is not None:
        ends = stored.select(*KEY, F.timestamp_micros(F.unix_micros(newest) + 1).alias("_ends"))
        keys = keys.join(ends, KEY).select(*KEY, "_opened", F.greatest("_after", "_ends").alias("_after"))
        keys = cut_off(keys, rows)
    if spec.conflict == "split" and spec.evolved:
        # Under features of another time a row has another hash: late rows are told by what it would be now.
        stored = with_fingerprint(stored, {c.name: c for c in spec.columns("request", "sequence")}, NOW)
    narrow = _narrow(spec, stored).persist()
    return Known(spec, table, snapshot_id, where, keys, stored, narrow, rows, narrow.count(), (narrow,))


def _micros(spec: DatasetSpec) -> int:
    return int(spec.request_span.total_seconds() * 1_000_000)


def touched_partitions(spec: DatasetSpec, batch: DataFrame, catalog: str, reach: Reach) -> str:
    """Spark SQL of the partitions that may hold a row's request: its bucket, and periods within `reach` of its time."""
    from pyspark.sql import functions as F

    buckets, grain = spec.partition.buckets, spec.partition.grain
    bucket = F.expr(f"{catalog}.system.bucket({buckets}, user_id)").alias("bucket")
    if grain == "none":
        found = batch.select(bucket).distinct().collect()
        return _in_buckets({row["bucket"] for row in found}, buckets, catalog)
    before, behind = (F.make_dt_interval(secs=F.lit(span.total_seconds())) for span in reach)
    first, last = (F.date_trunc(grain, at) for at in (F.col("request_ts") - before, F.col("request_ts") + behind))
    after = last + F.expr(f"INTERVAL 1 {grain}")
    rows = batch.select(bucket, first.cast("string").alias("a"), after.cast("string").alias("b")).distinct().collect()
    if not rows:
        return "false"
    periods = _joined({(row["a"], row["b"]) for row in rows})
    times = " OR ".join(f"(request_ts >= TIMESTAMP '{a}' AND request_ts < TIMESTAMP '{b}')" for a, b in periods)
    return f"({times}) AND ({_in_buckets({row['bucket'] for row in rows}, buckets, catalog)})"


def _in_buckets(touched: set[int], buckets: int, catalog: str) -> str:
    # Iceberg pushes equality of a bucket down, but not IN.
    if len(touched) == buckets:
        return "true"
    return " OR ".join(f"{catalog}.system.bucket({buckets}, user_id) = {b}" for b in sorted(touched)) or "false"


def _joined(periods: set[tuple[str, str]]) -> list[tuple[str, str]]:
    """Half-open periods without overlaps."""
    joined: list[tuple[str, str]] = []
    for first, after in sorted(periods):
        if joined and first <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(after, joined[-1][1]))
        else:
            joined.append((first, after))
    return joined


def stored_place() -> Column:
    """A row of the request table, as `_file_id` of its candidates."""
    from pyspark.sql import functions as F

    return F.xxhash64(F.lit("stored"), *KEY, "request_hash")


def _exploded(names: list[str]) -> Column:
    """A row per candidate: `_index` and `_candidate` with the lists' values; a list that is null holds nulls."""
    from pyspark.sql import functions as F

    zipped = F.arrays_zip(*[F.coalesce(F.col(n), F.array()).alias(n) for n in names])
    return F.posexplode(zipped).alias("_index", "_candidate")


def _narrow(spec: DatasetSpec, stored: DataFrame) -> DataFrame:
    """Stored candidates as narrow rows (spark_jobs/narrow.py). Under `first` and `latest` they keep their rank."""
    from pyspark.sql import functions as F

    split, versions = spec.conflict == "split", spec.keys.row_version is not None
    names = [n for n in row_columns(spec) if n not in ("request_ts", "row_version")]
    lists = [*names, *(["candidate_version"] if versions else []), *([] if split else ["candidate_rank"])]
    newest = newest_event(spec) if split else None
    rows = stored.select(
        *KEY,
        "request_ts",
        (_hash_of(stored) if split else fingerprint(request_columns(spec))).alias("_hash"),
        (newest if newest is not None else F.lit(None).cast("timestamp")).alias("_newest"),
        stored_place().alias("_file_id"),
        _exploded(lists),
    )
    candidate = {name: F.col(f"_candidate.{name}") for name in names}
    if versions:
        candidate["row_version"] = F.col("_candidate.candidate_version")
    narrow = rows.select(
        *KEY,
        "request_ts",
        *[column.alias(name) for name, column in candidate.items()],
        "_hash",
        "_newest",
        F.lit(None).cast("struct<reason: string, column: string>").alias("_fault"),
        "_file_id",
        (-1 - F.col("_index")).cast("bigint").alias("_row_number"),
        *([] if split else [F.col("_candidate.candidate_rank").alias("_stored_rank")]),
    )
    rank = row_rank(spec) if split else F.coalesce("_stored_rank", row_rank(spec))
    return narrow.withColumn("_rank", rank).drop("_stored_rank")


def _hash_of(stored: DataFrame) -> Column:
    """The hash that a stored row's features have now."""
    from pyspark.sql import functions as F

    return F.col(NOW if NOW in stored.columns else "request_hash")


def _supplied(spec: DatasetSpec) -> list[str]:
    """Columns that a request takes from the row that supplies it."""
    names = [c.name for c in spec.columns()]
    supplied = [c.name for c in spec.columns("request", "sequence")]
    return supplied + [name for name in ("user_id_raw", "request_id_raw") if name in names]
