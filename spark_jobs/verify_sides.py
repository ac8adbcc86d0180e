"""The two sides of a verification, a narrow row per impression: key, day, and a keyed hash `k_<column>` per column."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lakehouse.spec import DatasetSpec, FeatureType
from spark_jobs.columns import SPARK
from spark_jobs.direct import with_fingerprint
from spark_jobs.fingerprint import fingerprint
from spark_jobs.labels import label_columns
from spark_jobs.quarantine import JSON
from spark_jobs.raw import RawLog
from spark_jobs.scan import FILE, ROW
from spark_jobs.verify_emptied import Emptied, hashable, without_emptied

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

KEY = ("user_id", "request_id", "item_id")
CONTENT = ("_c1", "_c2")


@dataclass(frozen=True)
class Requests:
    """How many requests the table has, and how many have which fault."""

    count: int
    faults: dict[str, int]


@dataclass(frozen=True)
class Sides:
    """`raw`: distinct accepted raw rows; `table`: the expanded table; `requests`: the table's rows with their hashes.

    `columns` are compared; `quarantined` and `overruled` count raw rows; `emptied` columns hold nothing before a time.
    """

    log: RawLog
    columns: list[str]
    raw: DataFrame
    table: DataFrame
    requests: DataFrame
    expanded: DataFrame
    all_times: DataFrame
    quarantined: int
    overruled: int
    emptied: Emptied

    @classmethod
    def of(
        cls,
        spec: DatasetSpec,
        log: RawLog,
        table: DataFrame,
        quarantine: DataFrame | None,
        batches: list[str],
        *,
        emptied: Emptied,
    ) -> Sides:
        """Both sides, cached; `release` drops them."""
        from pyspark.sql import functions as F

        shared, own = shared_columns(spec), own_columns(spec)
        requests = table.withColumns({f"h_{n}": fingerprint({n: t}) for n, t in shared.items()})
        expanded = expand(spec, requests)
        hashed = expanded.withColumns({f"h_{n}": fingerprint({n: t}) for n, t in own.items()})
        columns = [*shared, *own]
        narrow = ["user_id", "request_id", "item_id", *(["position"] if spec.keys.position else [])]
        right = hashed.select(*narrow, F.to_date("request_ts").alias("day"), *keyed(spec, columns)).persist()

        wanted = {n: t for n, t in (shared | own).items() if n != "candidate_version"}
        rows = log.typed.withColumns({f"h_{n}": fingerprint({n: t}) for n, t in wanted.items()})
        if spec.keys.row_version is not None:
            rows = rows.withColumn("h_candidate_version", fingerprint({"row_version": FeatureType("long")}))
        hashes = [f"h_{c}" for c in columns]
        content = [F.xxhash64(F.lit(salt), *key_parts(spec), "request_ts", *hashes) for salt in (1, 2)]
        rows = rows.select(
            *narrow, "request_ts", *hashes, *[c.alias(n) for c, n in zip(content, CONTENT, strict=True)], FILE, ROW
        )
        rows = rows.join(F.broadcast(_marks(log, quarantine, batches)), [FILE, ROW], "left")
        rows = _with_overruled(spec, rows, narrow, quarantine, batches).persist()
        condemned = rows.where("_condemned")
        accepted = (
            rows.where("_condemned IS NULL")
            .dropDuplicates(list(CONTENT))
            .join(condemned.select(*CONTENT), list(CONTENT), "left_anti")
        )
        accepted = without_emptied(spec, accepted, requests, emptied)
        accepted, overruled = _with_the_tables_request(spec, accepted, requests)
        day = F.to_date(F.coalesce("_opened", "request_ts")).alias("day")
        left = accepted.select(*narrow, day, *keyed(spec, columns), "_overruled", FILE, ROW).persist()
        return cls(
            log=log,
            columns=columns,
            raw=left,
            table=right,
            requests=requests,
            expanded=expanded,
            all_times=rows.select("user_id", "request_id", "request_ts"),
            quarantined=condemned.count(),
            overruled=left.where("_overruled").count() if overruled else 0,
            emptied=emptied,
        )

    def release(self) -> None:
        """Drop what was cached."""
        for side in (self.raw, self.table):
            side.unpersist()


def shared_columns(spec: DatasetSpec) -> dict[str, FeatureType]:
    """Columns that the table holds once per request and that are compared."""
    raw_ids = {c.name: c.type for c in spec.columns("key") if c.name.endswith("_raw")}
    return raw_ids | {c.name: c.type for c in spec.columns("request", "sequence")}


def own_columns(spec: DatasetSpec) -> dict[str, FeatureType]:
    """Columns that each impression has for itself, but for labels with a time: the newest stands, whoever told it."""
    keys = {c.name: c.type for c in spec.columns("candidate_key") if c.name != "position" or spec.keys.position}
    changing = set(label_columns(spec))
    own = keys | {c.name: c.type for c in spec.columns("candidate", "label") if c.name not in changing}
    return own | ({"candidate_version": FeatureType("long")} if spec.keys.row_version is not None else {})


def expand(spec: DatasetSpec, requests: DataFrame) -> DataFrame:
    """Request rows to impression rows: every list of candidates side by side."""
    from pyspark.sql import functions as F

    lists = [c.name for c in spec.columns() if c.per_candidate]
    # A list that is null (a column added later) has nulls for every candidate.
    zipped = F.arrays_zip(*[F.coalesce(F.col(n), F.array()).alias(n) for n in lists])
    rest = [c for c in requests.columns if c not in lists]
    rows = requests.select(*rest, F.explode(zipped).alias("_impression"))
    return rows.select(*rest, *[F.col("_impression").getField(n).alias(n) for n in lists])


def key_parts(spec: DatasetSpec) -> list[Column]:
    """The impression's key for hashing, nulls told apart."""
    from pyspark.sql import functions as F

    names = [*KEY, *(["position"] if spec.keys.position else [])]
    return [part for name in names for part in (F.col(name).isNull(), F.col(name))]


def keyed(spec: DatasetSpec, columns: list[str]) -> list[Column]:
    """`k_<column>`: the column's hash mixed with the impression's key: values that swap their keys do not cancel."""
    from pyspark.sql import functions as F

    return [F.xxhash64(*key_parts(spec), F.col(f"h_{c}")).alias(f"k_{c}") for c in columns]


def _marks(log: RawLog, quarantine: DataFrame | None, batches: list[str]) -> DataFrame:
    """(_file, _row, _condemned) of quarantined rows; a file that was moved is known by its name, if that is its own."""
    from pyspark.sql import functions as F

    if quarantine is None:
        return log.typed.select(FILE, ROW, F.lit(True).alias("_condemned")).limit(0)
    marks = quarantine.where(F.col("batch_id").isin(batches)).select("file", F.col("row").alias(ROW)).distinct()
    paths = [row[FILE] for row in log.raw.select(FILE).distinct().collect()]
    names = {path.rsplit("/", 1)[-1]: path for path in paths}
    spark = log.raw.sparkSession
    if len(names) == len(paths):
        known = spark.createDataFrame(list(names.items()), f"_name string, {FILE} string")
        marks = marks.withColumn("_name", F.element_at(F.split("file", "/"), -1)).join(F.broadcast(known), "_name")
    else:
        marks = marks.withColumn(FILE, F.col("file"))
    return marks.select(FILE, ROW, F.lit(True).alias("_condemned"))


def _with_overruled(
    spec: DatasetSpec, rows: DataFrame, narrow: list[str], quarantine: DataFrame | None, batches: list[str]
) -> DataFrame:
    """Rows whose impression was in the table until a late row overruled it are condemned as well.

    The quarantine has such an impression as the table had it, without a place in a raw file (a negative row). Under
    `first` and `latest` its request features are its request's, so the impression's own columns have to tell it.
    """
    from pyspark.sql import functions as F

    if quarantine is None:
        return rows
    own, shared = own_columns(spec), shared_columns(spec) if spec.conflict == "split" else {}
    hashes = {f"h_{n}": fingerprint({n: t}) for n, t in (shared | own).items()}
    fields = [f"`{n}` {_ddl(t)}" for n, t in (shared | own).items()]
    held = quarantine.where(F.col("batch_id").isin(batches) & (F.col("row") < 0))
    parsed = held.select("user_id", "request_id", F.from_json("raw", ", ".join(fields), JSON).alias("r"))
    told = parsed.select("user_id", "request_id", "r.*").withColumns(hashes)
    told = told.select(*narrow, *hashes).distinct().withColumn("_gone", F.lit(True))
    marked = rows.join(F.broadcast(told), [*narrow, *hashes], "left")
    return marked.withColumn("_condemned", F.coalesce("_condemned", "_gone")).drop("_gone")


def _ddl(kind: FeatureType) -> str:
    return SPARK[kind.element] if kind.shape == "scalar" else f"array<{SPARK[kind.element]}>"


def _with_the_tables_request(spec: DatasetSpec, accepted: DataFrame, requests: DataFrame) -> tuple[DataFrame, bool]:
    """The table's time of each row's request, and under `first` and `latest` the winner's features in the row's place.

    They take the place only where some raw row of the request has them: features that no raw row had stay a
    difference.
    """
    from pyspark.sql import functions as F

    shared = [f"h_{n}" for n in shared_columns(spec)]
    by = ["user_id", "request_id"]
    mine = F.xxhash64(*shared) if shared else F.lit(0).cast("bigint")
    table = requests.groupBy(*by).agg(
        F.min("request_ts").alias("_opened"), *[F.first(h).alias(f"t{h}") for h in shared]
    )
    theirs = F.xxhash64(*[F.col(f"t{h}") for h in shared]) if shared else F.lit(0).cast("bigint")
    joined = accepted.join(table, by, "left").withColumn("_mine", mine).withColumn("_theirs", theirs)
    if spec.conflict == "split" or not shared:
        return joined.withColumn("_overruled", F.lit(False)), False
    supplied = accepted.withColumn("_mine", mine).select(*by, F.col("_mine").alias("_theirs")).distinct()
    supplied = supplied.withColumn("_supplied", F.lit(True))
    joined = joined.join(supplied, [*by, "_theirs"], "left")
    overruled = F.coalesce(F.col("_supplied"), F.lit(False)) & (F.col("_mine") != F.col("_theirs"))
    joined = joined.withColumn("_overruled", overruled)
    return joined.withColumns(
        {h: F.when(F.col("_overruled"), F.col(f"t{h}")).otherwise(F.col(h)) for h in shared}
    ), True


def compare_requests(spec: DatasetSpec, sides: Sides) -> Requests:
    """What belongs to a request as a whole: its time is one of its rows', its hash and its positions are right."""
    from pyspark.sql import functions as F

    times = sides.all_times.distinct().withColumn("_known", F.lit(True))
    joined = sides.requests.join(times, ["user_id", "request_id", "request_ts"], "left")
    checks = {"request_ts": F.col("_known").isNull()}
    shared = {c.name: c for c in spec.columns("request", "sequence")}
    right = F.lit(0).cast("bigint")
    if spec.conflict == "split" and spec.evolved:
        right = F.col("request_hash")  # each row's is that of its features at the time
    elif spec.conflict == "split":
        needed = [
            "request_hash",
            "request_ts",
            "_known",
            *(["item_id", "position"] if spec.keys.position is None else []),
        ]
        joined = with_fingerprint(joined.select(*needed, *shared), shared, "_right", drop=tuple(shared))
        right = F.col("_right")
    whole = hashable(spec, sides.emptied)  # of an emptied request the hash cannot be made again
    checks["request_hash"] = whole & (F.col("request_hash") != 0) & (F.col("request_hash") != right)
    if spec.keys.position is None:
        counted = F.sequence(F.lit(0), F.size("item_id") - 1)
        checks["position"] = ~F.coalesce(F.col("position") == counted, F.lit(False))
    row = joined.agg(
        F.count("*").alias("n"), *[F.count_if(F.coalesce(c, F.lit(True))).alias(name) for name, c in checks.items()]
    ).collect()[0]
    return Requests(row["n"], {name: row[name] for name in checks if row[name]})
