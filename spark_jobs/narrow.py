"""The narrow pass: from raw rows to one group per request, and to the row that supplies each request's features.

No wide column is carried: of the request features a row keeps a 64-bit fingerprint. A request's rows are gathered in
one array, and everything that depends on the others (the request's time, duplicates, conflicts, order) is decided
there, in the order of overview.md, "Merging: definitions"; never by file, row or arrival.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lakehouse.spec import DatasetSpec, FeatureType
from spark_jobs.checks import EVENT, Check, newest_event, request_checks, row_checks, verdict
from spark_jobs.direct import HASH, NEWEST
from spark_jobs.fingerprint import fingerprint
from spark_jobs.labels import label_columns, newest_labels
from spark_jobs.raw import RawLog
from spark_jobs.scan import FILE, ROW

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

LONG, INT, TIME = FeatureType("long"), FeatureType("int"), FeatureType("timestamp")
WINNER = ("_winner_file", "_winner_row")
ALL_ROWS = ("_row_files", "_row_numbers")


@dataclass(frozen=True)
class Grouping:
    """How rows are told apart and ranked: fields of the row structs, in sort order."""

    key: tuple[str, ...]
    rank: tuple[str, ...]
    place: tuple[str, ...]
    keep_last: bool

    @classmethod
    def of(cls, spec: DatasetSpec) -> Grouping:
        """The spec's impression key, row rank and position order."""
        keys = spec.keys
        key = ("item_id", "position") if spec.impression_key == "position" else ("item_id",)
        rank = ("row_version", "_rank") if keys.row_version else ("_rank",)
        if keys.position is not None:
            place: tuple[str, ...] = ("position", "item_id")
        else:
            place = ("impression_ts", "item_id") if keys.impression_ts else ("item_id",)
        return cls(key, rank, place, keep_last=spec.conflict != "first")

    @property
    def order(self) -> tuple[str, ...]:
        """Rows of one impression lie together, and the one to keep is the last of them, or the first."""
        middle = self.rank if self.keep_last else (*self.place[:1], *self.rank)
        return tuple(dict.fromkeys((*self.key, *middle)))


def row_columns(spec: DatasetSpec) -> dict[str, FeatureType]:
    """The narrow columns of a raw row beside its user and request, with their types."""
    columns = {"request_ts": TIME, "item_id": LONG}
    if spec.keys.item_id.type == "string":
        columns["item_id_raw"] = FeatureType("string")
    if spec.keys.position is not None:
        columns["position"] = INT
    if spec.keys.impression_ts is not None:
        columns["impression_ts"] = TIME
    columns |= {c.name: c.type for c in spec.columns("candidate", "label")}
    if spec.keys.row_version is not None:
        columns["row_version"] = LONG
    return columns


def request_columns(spec: DatasetSpec) -> dict[str, FeatureType]:
    """The request features, in the order in which their fingerprint takes them."""
    return {c.name: c.type for c in spec.columns("request", "sequence")}


def narrow_rows(spec: DatasetSpec, log: RawLog, *, check_conflicts: bool) -> DataFrame:
    """One narrow row per raw row: keys, candidate, labels, `_hash`, `_rank`, `_newest`, `_fault`, and where it lies."""
    from pyspark.sql import functions as F

    narrow = row_columns(spec)
    checks = row_checks(spec)
    hashed, newest, log_rows = F.lit(0).cast("bigint"), None, log.narrow()
    if check_conflicts and spec.conflict == "split":
        log_rows = log.hashed(["user_id", "request_id", *narrow])
        hashed, newest = F.col(HASH), F.col(NEWEST)
    elif check_conflicts:
        hashed, newest, log_rows = fingerprint(request_columns(spec)), newest_event(spec), log.typed
    if newest is not None:
        checks.append(Check(EVENT, "newest event", newest >= F.col("request_ts")))
    if check_conflicts and spec.conflict != "split":
        # The next row in rank has to be known before one is chosen, so every row is looked at.
        checks += [check for check in request_checks(spec) if check.reason != EVENT]
    rows = log_rows.select(
        "user_id",
        "request_id",
        *narrow,
        hashed.alias("_hash"),
        (newest if newest is not None else F.lit(None).cast("timestamp")).alias("_newest"),
        verdict(checks).alias("_fault"),
        F.xxhash64(FILE).alias("_file_id"),
        F.col(ROW).alias("_row_number"),
    )
    return rows.withColumn("_rank", row_rank(spec))


def row_rank(spec: DatasetSpec) -> Column:
    """64-bit hash of a narrow row's content: of what the table holds of it, so that a stored row has the same.

    Its own `request_ts` is not in it: the table keeps the request's. Nor are labels with a time: they change.
    """
    changing = {"request_ts", *label_columns(spec)}
    kept = {name: kind for name, kind in row_columns(spec).items() if name not in changing}
    return fingerprint({"user_id": LONG, "request_id": LONG, **kept, "_hash": LONG})


def group_requests(spec: DatasetSpec, rows: DataFrame) -> DataFrame:
    """One row per request (per variant of it under `split`): its key, its candidates as parallel lists, and books.

    `_winner_file`, `_winner_row`: the raw row that supplies the request's features. `_late`, `_reaching`, `_losing`:
    raw rows that are condemned here. `_duplicates`, `_conflicting`: counts. `_row_files`, `_row_numbers`: every row.
    """
    from pyspark.sql import functions as F

    how = Grouping.of(spec)
    fields = [*how.order, *(name for name in row_columns(spec) if name not in how.order)]
    struct = F.struct(*fields, "_hash", "_newest", "_file_id", "_row_number")
    good = rows.where(F.col("_fault").isNull())
    grouped = good.groupBy("user_id", "request_id").agg(F.collect_list(struct).alias("c"))
    kept = _deduplicated(how, _variants(spec, how, _in_time(spec, grouped)))
    return _laid_out(spec, how, newest_labels(spec, how, kept))


def _in_time(spec: DatasetSpec, grouped: DataFrame) -> DataFrame:
    """The request's time, and the rows that lie within its span and whose events lie before it."""
    from pyspark.sql import functions as F

    limit = F.timestamp_micros(F.unix_micros("request_ts") + F.lit(int(spec.request_span.total_seconds() * 1_000_000)))
    timed = grouped.withColumn("request_ts", F.array_min(F.col("c.request_ts"))).withColumn("_limit", limit)
    opened, last = F.col("request_ts"), F.col("_limit")

    def late(x: Column) -> Column:
        return x["request_ts"] > last

    def reaching(x: Column) -> Column:
        return ~late(x) & F.coalesce(x["_newest"] >= opened, F.lit(False))

    some = (F.array_max(F.col("c.request_ts")) > last) | F.coalesce(
        F.array_max(F.col("c._newest")) >= opened, F.lit(False)
    )
    return timed.select(
        "user_id",
        "request_id",
        "request_ts",
        F.when(some, F.filter("c", lambda x: ~late(x) & ~reaching(x))).otherwise(F.col("c")).alias("c"),
        _places(F.when(some, F.filter("c", late))).alias("_late"),
        _places(F.when(some, F.filter("c", reaching))).alias("_reaching"),
    )


def _variants(spec: DatasetSpec, how: Grouping, timed: DataFrame) -> DataFrame:
    """Under `split` a row per distinct fingerprint; else one, with the fingerprint of the winning row."""
    from pyspark.sql import functions as F

    ranked = F.transform("c", lambda x: F.struct(*[x[name] for name in (*_preference(spec, how), "_hash")]))
    best = F.array_min(ranked) if spec.conflict == "first" else F.array_max(ranked)
    one = F.size(F.array_distinct(F.col("c._hash"))) == 1
    first = F.element_at(F.col("c._hash"), 1)
    told = timed.withColumn("_best", F.when(one, first).otherwise(best["_hash"]))
    if spec.conflict != "split":
        differs = F.filter("c", lambda x: (x["_hash"] != F.col("_best")) & _raw(x))
        differing = F.when(one, 0).otherwise(F.size(differs))
        return told.select("*", F.lit(0).cast("bigint").alias("request_hash"), differing.alias("_conflicting"))
    spread = told.withColumn("request_hash", F.explode(F.array_distinct(F.col("c._hash"))))
    is_best = F.col("request_hash") == F.col("_best")
    mine = F.filter("c", lambda x: x["_hash"] == F.col("request_hash"))
    return spread.select(
        "user_id",
        "request_id",
        "request_ts",
        "request_hash",
        F.when(one, F.col("c")).otherwise(mine).alias("c"),
        # The books of the whole request are kept with one of its variants.
        F.when(is_best, F.col("_late")).alias("_late"),
        F.when(is_best, F.col("_reaching")).alias("_reaching"),
        F.when(is_best, 0).otherwise(F.size(F.filter(mine, _raw))).alias("_conflicting"),
    )


def _raw(x: Column) -> Column:
    """Whether a row lies in a raw file, and not in the table (spark_jobs/merge.py)."""
    return x["_row_number"] >= 0


def _preference(spec: DatasetSpec, how: Grouping) -> tuple[str, ...]:
    """Fields by which a row supplies the request: `first` the least (position, rank), else the greatest rank."""
    return (*how.place, *how.rank) if spec.conflict == "first" else how.rank


def _deduplicated(how: Grouping, variants: DataFrame) -> DataFrame:
    """Rows of one impression to the one that stays; the others are duplicates, or conflicts that lose."""
    from pyspark.sql import functions as F

    rows = variants.withColumn("c", F.sort_array("c"))
    c = F.col("c")
    step = 1 if how.keep_last else -1

    def neighbour(i: Column) -> Column:
        """The row that would stay in this one's place, null at the end."""
        return F.get(c, i + F.lit(step))

    def same(x: Column, y: Column, names: tuple[str, ...]) -> Column:
        equal = F.lit(True)
        for name in names:
            equal = equal & (x[name] == y[name])
        return F.coalesce(equal, F.lit(False))

    def stays(x: Column, i: Column) -> Column:
        return ~same(x, neighbour(i), how.key)

    def loses(x: Column, i: Column) -> Column:
        return same(x, neighbour(i), how.key) & ~same(x, neighbour(i), ("_rank",))

    contents, size = F.size(F.array_distinct(F.col("c._rank"))), F.size("c")
    # array_distinct is quick for primitives only; a collision here merely takes the exact way.
    one_key = len(how.key) == 1
    keys = F.col(f"c.{how.key[0]}") if one_key else F.transform(c, lambda x: F.xxhash64(*[x[n] for n in how.key]))
    alone = F.size(F.array_distinct(keys)) == size
    return rows.select(
        *[name for name in rows.columns if name != "c"],
        F.when(alone, c).otherwise(F.filter(c, stays)).alias("kept"),
        _places(F.when(~alone, F.filter(c, loses))).alias("_losing"),
        (size - contents).alias("_duplicates"),
        size.alias("_size"),
        F.col("c"),
    )


def _laid_out(spec: DatasetSpec, how: Grouping, groups: DataFrame) -> DataFrame:
    """Candidates in position order as parallel lists, and the row that supplies the request's features."""
    from pyspark.sql import functions as F

    lies = ("_file_id", "_row_number")
    fields = dict.fromkeys((*_preference(spec, how), "_rank", *lies))
    ranked = F.transform("c", lambda x: F.struct(*[x[n] for n in fields]))
    best = F.array_min(ranked) if spec.conflict == "first" else F.array_max(ranked)
    winner = F.col("_best")
    if spec.conflict == "split":
        # All rows of a variant agree: a stored one costs nothing, and the first rows of all lie in few row groups.
        winner = F.array_min(F.transform("c", lambda x: F.struct(_raw(x), *[x[n] for n in lies])))
    by_place = F.sort_array(F.transform("kept", lambda x: F.struct(*[x[n] for n in how.place], x.alias("row"))))
    placed = groups.withColumn("kept", by_place).withColumn("_best", best)
    lists = {name: F.col(f"kept.row.{name}") for name in row_columns(spec) if name not in ("request_ts", "row_version")}
    if spec.keys.position is None:
        lists["position"] = F.sequence(F.lit(0), F.size("kept") - 1)
    scalars = {}
    if spec.conflict != "split":
        lists["candidate_rank"] = F.col("kept.row._rank")
        scalars["request_rank"] = F.col("_best._rank")
    if spec.keys.row_version is not None:
        lists["candidate_version"] = F.col("kept.row.row_version")
        scalars["request_version"] = F.col("_best.row_version")
    return placed.select(
        "user_id",
        "request_id",
        "request_ts",
        "request_hash",
        *[column.alias(name) for name, column in (scalars | lists).items()],
        winner["_file_id"].alias(WINNER[0]),
        winner["_row_number"].alias(WINNER[1]),
        F.col("c._file_id").alias(ALL_ROWS[0]),
        F.col("c._row_number").alias(ALL_ROWS[1]),
        "_late",
        "_reaching",
        "_losing",
        "_duplicates",
        "_conflicting",
        "_size",
    )


def _places(rows: Column) -> Column:
    """Where the rows of an array lie; null where there are none to speak of."""
    from pyspark.sql import functions as F

    return F.transform(rows, lambda x: F.struct(x["_file_id"].alias("file"), x["_row_number"].alias("row")))
