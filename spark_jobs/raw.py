"""The raw log as the spec sees it: its own columns and types, one row per impression, with where each row lies.

`_file` and `_row` name a row for good: they are what the two passes of the ingest and the quarantine speak of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from lakehouse.errors import RawDataError, SpecError
from lakehouse.raw.partitions import wanted_types
from lakehouse.raw.places import on_s3, s3_options
from lakehouse.settings import S3Settings
from lakehouse.spec import DatasetSpec, FeatureType
from lakehouse.spec.fields import TimeColumn
from spark_jobs.arrow_fingerprint import Wide
from spark_jobs.columns import Source, find_source, in_all, time_of, typed
from spark_jobs.direct import HASH, HASHES, NEWEST, Direct, direct_way, spark_type, with_fingerprint
from spark_jobs.files import RawFile, find_files
from spark_jobs.scan import FILE, ROW, Scan, arrow_scan, avro_scan, of_one_format, parquet_scan, partitioned

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

LONG, INT, STRING = FeatureType("long"), FeatureType("int"), FeatureType("string")
LOSSY_ROW, LOSSY_REQUEST = "_lossy_row", "_lossy_request"


@dataclass(frozen=True)
class RawLog:
    """A raw log: its files, `raw` as it lies, `typed` as the spec sees it, both with `_file` and `_row`.

    `direct`: how workers read it by themselves, where they can. `thin`: `typed` without request features, where what a
    frame does not show is decoded all the same.
    """

    spec: DatasetSpec
    files: list[RawFile]
    raw: DataFrame
    typed: DataFrame
    direct: Direct | None
    thin: DataFrame | None = None

    @property
    def rows(self) -> int:
        """Rows of all files, from their footers."""
        return sum(file.rows for file in self.files)

    def hashed(self, names: list[str]) -> DataFrame:
        """Typed narrow columns, `_lossy_row`, file and row of every row, its fingerprint and its newest event."""
        from pyspark.sql import functions as F

        from spark_jobs.checks import newest_event

        if self.direct is not None:
            return self.narrow(hashed=True).select(*names, LOSSY_ROW, FILE, ROW, HASH, NEWEST)
        wide = {c.name: c for c in self.spec.columns("request", "sequence")}
        newest = newest_event(self.spec)
        none = F.lit(None).cast("timestamp")
        typed = self.typed.select(
            *names, LOSSY_ROW, FILE, ROW, (none if newest is None else newest).alias(NEWEST), *wide
        )
        return with_fingerprint(typed, wide, HASH, drop=tuple(wide)).select(*names, LOSSY_ROW, FILE, ROW, HASH, NEWEST)

    def narrow(self, *, hashed: bool = False) -> DataFrame:
        """The log without request features; read by workers, with `_hash` and `_newest` (0, null unless `hashed`)."""
        if self.direct is None:
            return self.typed if self.thin is None else self.thin
        columns, lossy, _ = _columns(self.spec, self.files, wide=False)
        frame = self.direct.scan(hashed=hashed).select(
            *[column.alias(name) for name, column in columns.items()],
            _first(lossy, self.spec, request=False).alias(LOSSY_ROW),
            FILE,
            ROW,
            HASH,
            NEWEST,
        )
        return _with_gap_requests(frame, self.spec)

    def taken(self, places: DataFrame, names: list[str]) -> DataFrame:
        """Typed columns `names`, `_lossy_request`, file, row and `_hash` of the rows at `places` (file id, row).

        Only where workers read it: the places are carried to them.
        """
        from pyspark.sql import functions as F

        if self.direct is None:
            raise ValueError("this log is not read by workers")
        ids = [name for name in names if name not in self.direct.wide]
        columns = _columns(self.spec, self.files, wide=False)[0]
        return self.direct.take(*_on_the_driver(places), narrow=bool(ids)).select(
            *[columns[name].alias(name) if name in ids else name for name in names],
            F.lit(None).cast("string").alias(LOSSY_REQUEST),
            FILE,
            ROW,
            HASH,
        )

    def fingerprints(self, places: DataFrame) -> DataFrame:
        """File, row, and `_hashes` (a fingerprint for each request feature) of the rows at `places`."""
        if self.direct is None:
            raise ValueError("this log is not read by workers")
        return self.direct.take(*_on_the_driver(places), narrow=False, only=(FILE, ROW, HASHES))


def _on_the_driver(places: DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """File ids and row numbers, int64 [n] each."""
    if hasattr(places, "toArrow"):
        found = places.toArrow()
    else:  # Spark 3.5
        batches = places._collect_as_arrow()  # noqa: SLF001
        found = pa.Table.from_batches(batches) if batches else pa.table({"file": [], "row": []})
    files, rows = (column.to_numpy() for column in found.columns)
    return files.astype(np.int64), rows.astype(np.int64)


def read_raw(spark: SparkSession, spec: DatasetSpec, paths: Iterable[str | Path]) -> DataFrame:
    """The raw log typed as the spec says, named as the request table's columns (scalars where that has lists).

    Beside them: `row_version` where the spec maps one, `_file`, `_row`, and `_lossy_row`, `_lossy_request`: the column
    whose value did not survive its cast, else null. Raises RawDataError that names file, column and remedy.
    """
    return open_raw(spark, spec, find_files(paths)).typed


def open_raw(spark: SparkSession, spec: DatasetSpec, files: list[RawFile], s3: S3Settings | None = None) -> RawLog:
    """The raw log of files that are known to be whole. Raises RawDataError; SpecError for a request_id expression."""
    of_one_format(files)
    for file in files:
        _refuse_nanoseconds(file)
    files = partitioned(files, wanted_types(spec))
    folders = {name for file in files for name, _ in file.partition}
    if spec.keys.request_id.expression is not None:
        from_folders = bool(folders)  # the expression may name them
    else:
        from_folders = any(source.head in folders for source in _columns(spec, files, wide=True)[2])
    if files[0].format == "avro":
        return _log(spec, files, avro_scan(spark, files), prunes=False)
    if files[0].format == "orc" or from_folders or any(on_s3(file.path) for file in files):
        log = _log(spec, files, arrow_scan(spark, files, s3), prunes=False)
    else:
        log = _log(spec, files, parquet_scan(spark, files))
    if files[0].format == "orc" or from_folders:
        return log
    heads = list(dict.fromkeys(source.head for source in _columns(spec, files, wide=False)[2]))
    storage = s3_options(s3)
    return replace(log, direct=direct_way(spark, spec, files, log.raw, heads, places=(FILE, ROW), storage=storage))


def _log(spec: DatasetSpec, files: list[RawFile], scan: Scan, *, prunes: bool = True) -> RawLog:
    """The raw log of a scan, which `prunes` columns that nobody takes from its frame, or has to be told them."""
    raw = scan(None)
    if prunes or spec.keys.request_id.expression is not None:
        return log_of(spec, files, raw)
    used, narrow = ([source.head for source in _columns(spec, files, wide=wide)[2]] for wide in (True, False))
    log = log_of(spec, files, scan(used))
    return replace(log, raw=raw, thin=_typed(spec, files, scan(narrow), wide=False))


def log_of(spec: DatasetSpec, files: list[RawFile], raw: DataFrame) -> RawLog:
    """The raw log of a frame with `_file` and `_row`, whose column types are those of `files`; errors as `open_raw`."""
    from pyspark.errors import AnalysisException

    try:
        return RawLog(spec, files, raw, _typed(spec, files, raw, wide=True), None)
    except AnalysisException as error:
        expression = spec.keys.request_id.expression
        if expression is None:
            raise
        text = str(error).splitlines()[0]
        raise SpecError(f"keys.request_id.expression {expression!r} does not fit the raw log: {text}") from error


def _typed(spec: DatasetSpec, files: list[RawFile], raw: DataFrame, *, wide: bool) -> DataFrame:
    """The frame as the spec sees it, without request features unless `wide`."""
    columns, lossy, _ = _columns(spec, files, wide=wide)
    identified = raw.select(
        *[column.alias(name) for name, column in columns.items()],
        _first(lossy, spec, request=False).alias(LOSSY_ROW),
        _first(lossy, spec, request=True).alias(LOSSY_REQUEST),
        FILE,
        ROW,
    )
    return _with_gap_requests(identified, spec)


def _columns(
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
    columns["item_id"] = _hashed(item) if keys.item_id.type == "string" else item
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
    columns["user_id"] = _hashed(own) if user.type == "string" else own
    named = own.cast("string")
    for name in user.fallback:
        other = find(name, "user_id.fallback").column()
        text = F.concat(F.lit(f"{name}:"), other.cast("string"))
        columns["user_id"] = F.coalesce(columns["user_id"], _hashed(text))
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
    columns["request_id"] = _hashed(own) if request.type == "string" else own
    if request.type == "string":
        columns["request_id_raw"] = own


def _with_gap_requests(frame: DataFrame, spec: DatasetSpec) -> DataFrame:
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


def _hashed(text: Column) -> Column:
    """A string id as int64; null stays null (Spark's hash of null is the seed)."""
    from pyspark.sql import functions as F

    return F.when(text.isNotNull(), F.xxhash64(text))


def _first(lossy: dict[str, Column], spec: DatasetSpec, *, request: bool) -> Column:
    """The first column whose value was lost, null where none was."""
    from pyspark.sql import functions as F

    names = {c.name for c in spec.columns("request", "sequence")}
    mine = {name: lost for name, lost in lossy.items() if (name in names) == request}
    whens = [F.when(lost, F.lit(name)) for name, lost in mine.items()]
    return F.coalesce(*whens) if whens else F.lit(None).cast("string")


def _refuse_nanoseconds(file: RawFile) -> None:
    def holds(kind: pa.DataType) -> bool:
        if pa.types.is_nested(kind):
            return any(holds(kind.field(i).type) for i in range(kind.num_fields))
        return bool(pa.types.is_timestamp(kind) and kind.unit == "ns")

    for field in file.schema:
        if holds(field.type):
            raise RawDataError(
                f"{file.path}: column {field.name} holds nanosecond times ({field.type}), which Spark does not read: "
                f"write it in microseconds (PyArrow: coerce_timestamps='us')"
            )
