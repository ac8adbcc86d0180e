"""The raw log as the spec sees it: its own columns and types, one row per impression, with where each row lies.

`_file` and `_row` name a row for good: they are what the two passes of the ingest and the quarantine speak of.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from lakehouse.errors import RawDataError, SpecError
from lakehouse.raw.partitions import wanted_types
from lakehouse.raw.places import on_s3, s3_options
from lakehouse.settings import S3Settings
from lakehouse.spec import DatasetSpec
from spark_jobs.direct import HASH, HASHES, NEWEST, Direct, direct_way, with_fingerprint
from spark_jobs.files import RawFile, find_files
from spark_jobs.mapping import LOSSY_REQUEST, LOSSY_ROW, first_lost, mapped, mapping, with_gap_requests
from spark_jobs.scan import FILE, ROW, Scan, arrow_scan, avro_scan, of_one_format, parquet_scan, partitioned

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


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
        columns, lossy, _ = mapping(self.spec, self.files, wide=False)
        frame = self.direct.scan(hashed=hashed).select(
            *[column.alias(name) for name, column in columns.items()],
            first_lost(lossy, self.spec, request=False).alias(LOSSY_ROW),
            FILE,
            ROW,
            HASH,
            NEWEST,
        )
        return with_gap_requests(frame, self.spec)

    def taken(self, places: DataFrame, names: list[str]) -> DataFrame:
        """Typed columns `names`, `_lossy_request`, file, row and `_hash` of the rows at `places` (file id, row).

        Only where workers read it: the places are carried to them.
        """
        from pyspark.sql import functions as F

        if self.direct is None:
            raise ValueError("this log is not read by workers")
        ids = [name for name in names if name not in self.direct.wide]
        columns = mapping(self.spec, self.files, wide=False)[0]
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
        batches = getattr(places, "_collect_as_arrow")()  # noqa: B009 - a frame's other names are its columns'
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
        from_folders = any(source.head in folders for source in mapping(spec, files, wide=True)[2])
    if files[0].format == "avro":
        return _log(spec, files, avro_scan(spark, files), prunes=False)
    if files[0].format == "orc" or from_folders or any(on_s3(file.path) for file in files):
        log = _log(spec, files, arrow_scan(spark, files, s3), prunes=False)
    else:
        log = _log(spec, files, parquet_scan(spark, files))
    if files[0].format == "orc" or from_folders:
        return log
    heads = list(dict.fromkeys(source.head for source in mapping(spec, files, wide=False)[2]))
    storage = s3_options(s3)
    return replace(log, direct=direct_way(spark, spec, files, log.raw, heads, places=(FILE, ROW), storage=storage))


def _log(spec: DatasetSpec, files: list[RawFile], scan: Scan, *, prunes: bool = True) -> RawLog:
    """The raw log of a scan, which `prunes` columns that nobody takes from its frame, or has to be told them."""
    raw = scan(None)
    if prunes or spec.keys.request_id.expression is not None:
        return log_of(spec, files, raw)
    used, narrow = ([source.head for source in mapping(spec, files, wide=wide)[2]] for wide in (True, False))
    log = log_of(spec, files, scan(used))
    return replace(log, raw=raw, thin=mapped(spec, files, scan(narrow), wide=False))


def log_of(spec: DatasetSpec, files: list[RawFile], raw: DataFrame) -> RawLog:
    """The raw log of a frame with `_file` and `_row`, whose column types are those of `files`; errors as `open_raw`."""
    from pyspark.errors import AnalysisException

    try:
        return RawLog(spec, files, raw, mapped(spec, files, raw, wide=True), None)
    except AnalysisException as error:
        expression = spec.keys.request_id.expression
        if expression is None:
            raise
        text = str(error).splitlines()[0]
        raise SpecError(f"keys.request_id.expression {expression!r} does not fit the raw log: {text}") from error


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
