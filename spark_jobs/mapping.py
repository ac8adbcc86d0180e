"""How a raw log's columns become the request table's, as the spec maps them: one Spark expression a column."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from lakehouse.spec import DatasetSpec, FeatureType
from lakehouse.spec.fields import TimeColumn
from spark_jobs.arrow_fingerprint import Wide
from spark_jobs.columns import Source, find_source, in_all, time_of, typed
from spark_jobs.direct import spark_type
from spark_jobs.files import RawFile
from spark_jobs.scan import FILE, ROW

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

LONG, INT, STRING = FeatureType("long"), FeatureType("int"), FeatureType("string")
LOSSY_ROW, LOSSY_REQUEST = "_lossy_row", "_lossy_request"


def mapped(spec: DatasetSpec, files: list[RawFile], raw: DataFrame, *, wide: bool) -> DataFrame:
    """The frame as the spec sees it, without request features unless `wide`."""
    columns, lossy, _ = mapping(spec, files, wide=wide)
    identified = raw.select(
        *[column.alias(name) for name, column in columns.items()],
        first_lost(lossy, spec, request=False).alias(LOSSY_ROW),
        first_lost(lossy, spec, request=True).alias(LOSSY_REQUEST),
        FILE,
        ROW,
    )
    return with_gap_requests(identified, spec)


def mapping(
    spec: DatasetSpec, files: list[RawFile], *, wide: bool
) -> tuple[dict[str, Column], dict[str, Column], list[Source]]:
    """Columns by name, where a cast may lose values the predicate of rows that it does, and the raw columns used.

    A feature that came after the table was made is null where a file lacks it.
    """
    from pyspark.sql import functions as F

    columns: dict[str, Column] = {}
    lossy: dict[str, Column] = {}
    used: list[Source] = []

    def find(name: str, what: str) -> Source:
        having = [file for file in files if in_all(name, [file])] if what in spec.later else files
        used.append(find_source(name, having, what))
        return used[-1]

    def put(name: str, raw: str, wanted: FeatureType, unit: str | None = None, zone: str | None = None) -> None:
        if _is_absent(spec, name, raw, files):
            columns[name] = F.lit(None).cast(spark_type(Wide(raw, wanted.element, wanted.shape != "scalar")))
            return
        columns[name], lost = typed(find(raw, name), wanted, unit, zone)
        if lost is not None:
            lossy[name] = lost

    keys = spec.keys
    _put_user(columns, spec, find)
    _put_request(columns, spec, find)
    columns["request_ts"] = time_of(
        find(keys.request_ts.column, "request_ts"), keys.request_ts.unit, keys.request_ts.zone
    )
    item = typed(find(keys.item_id.column, "item_id"), _kind(keys.item_id.type), None, None)[0]
    columns["item_id"] = hashed_id(item) if keys.item_id.type == "string" else item
    if keys.item_id.type == "string":
        columns["item_id_raw"] = item
    if keys.position is not None:
        put("position", keys.position, INT)
    if keys.impression_ts is not None:
        at = keys.impression_ts
        columns["impression_ts"] = time_of(find(at.column, "impression_ts"), at.unit, at.zone)
    if keys.row_version is not None:
        put("row_version", keys.row_version, LONG)
    for column in spec.columns(*(("request", "sequence") if wide else ()), "candidate", "label"):
        if column.feature is not None:
            put(column.name, column.raw, column.type, column.feature.unit, column.feature.zone)
    for name, label in spec.labels.items():
        if label.time is not None:
            columns[f"{name}_time"] = _label_time(spec, name, label.time, files, find)
    return columns, lossy, used


def _is_absent(spec: DatasetSpec, name: str, raw: str, files: list[RawFile]) -> bool:
    """Whether no file has the raw column of a feature that came after the table was made."""
    return name in spec.later and not any(in_all(raw, [file]) for file in files)


def _label_time(
    spec: DatasetSpec, name: str, time: TimeColumn, files: list[RawFile], find: Callable[[str, str], Source]
) -> Column:
    from pyspark.sql import functions as F

    if _is_absent(spec, f"{name}_time", time.column, files):
        return F.lit(None).cast("timestamp")
    return time_of(find(time.column, f"{name}_time"), time.unit, time.zone)


def _put_user(columns: dict[str, Column], spec: DatasetSpec, find: Callable[[str, str], Source]) -> None:
    from pyspark.sql import functions as F

    user = spec.keys.user_id
    own = typed(find(user.column, "user_id"), _kind(user.type), None, None)[0]
    columns["user_id"] = hashed_id(own) if user.type == "string" else own
    named = own.cast("string")
    for name in user.fallback:
        other = find(name, "user_id.fallback").column()
        text = F.concat(F.lit(f"{name}:"), other.cast("string"))
        columns["user_id"] = F.coalesce(columns["user_id"], hashed_id(text))
        named = F.coalesce(named, text)
    if user.type == "string" or user.fallback:
        columns["user_id_raw"] = named


def _put_request(columns: dict[str, Column], spec: DatasetSpec, find: Callable[[str, str], Source]) -> None:
    from pyspark.sql import functions as F

    request = spec.keys.request_id
    if request.gap is not None:
        return
    if request.column is not None:
        own = typed(find(request.column, "request_id"), _kind(request.type), None, None)[0]
    else:
        own = F.expr(request.expression or "").cast("string" if request.type == "string" else "bigint")
    columns["request_id"] = hashed_id(own) if request.type == "string" else own
    if request.type == "string":
        columns["request_id_raw"] = own


def with_gap_requests(frame: DataFrame, spec: DatasetSpec) -> DataFrame:
    """A request per run of one user's impressions without a longer pause; its id is made of user and first time."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    gap = spec.keys.request_id.gap
    if gap is None:
        return frame
    micros = F.unix_micros("impression_ts")
    by_user = Window.partitionBy("user_id").orderBy("impression_ts")
    pause = micros - F.lag(micros).over(by_user)
    opens = F.coalesce(pause > F.lit(int(gap.total_seconds() * 1_000_000)), F.lit(True))
    first = F.last(F.when(opens, micros), ignorenulls=True).over(by_user.rowsBetween(Window.unboundedPreceding, 0))
    known = F.col("user_id").isNotNull() & F.col("impression_ts").isNotNull()
    return frame.withColumn("request_id", F.when(known, F.xxhash64("user_id", first)))


def _kind(id_type: str) -> FeatureType:
    return STRING if id_type == "string" else LONG


def hashed_id(text: Column) -> Column:
    """A string id as int64; null stays null (Spark's hash of null is the seed)."""
    from pyspark.sql import functions as F

    return F.when(text.isNotNull(), F.xxhash64(text))


def first_lost(lossy: dict[str, Column], spec: DatasetSpec, *, request: bool) -> Column:
    """The first column whose value was lost, null where none was."""
    from pyspark.sql import functions as F

    names = {c.name for c in spec.columns("request", "sequence")}
    mine = {name: lost for name, lost in lossy.items() if (name in names) == request}
    whens = [F.when(lost, F.lit(name)) for name, lost in mine.items()]
    return F.coalesce(*whens) if whens else F.lit(None).cast("string")
