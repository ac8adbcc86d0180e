"""Raw Parquet files read by PyArrow inside Spark's Python workers, where every request feature needs only a cast.

Spark decodes nested Parquet at a third of PyArrow's speed, and each wide row costs again where it enters the JVM. So a
task is given row groups; it answers with raw narrow columns and a fingerprint, or with the rows that were asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse

import numpy as np
import pyarrow as pa
import xxhash

from lakehouse.raw.places import on_s3
from lakehouse.spec import Column as SpecColumn
from lakehouse.spec import DatasetSpec
from lakehouse.spec.raw_types import held, plain
from spark_jobs.arrow_fingerprint import TYPES, Wide
from spark_jobs.files import RawFile
from spark_jobs.worker import Piece, hash_columns, scan_pieces, sent, take_pieces

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import StructType

HASH, NEWEST, HASHES = "_hash", "_newest", "_hashes"
PIECES = 4  # row groups of a task, where there are enough of them for all cores


@dataclass(frozen=True)
class Direct:
    """Row groups of raw files, and what is read of them: `narrow` raw columns as they lie, `wide` ones by spec."""

    spark: SparkSession
    pieces: list[Piece]
    narrow: StructType
    wide: dict[str, Wide]
    newest: dict[str, bool]
    where: dict[str, str]
    storage: dict[str, Any]

    def scan(self, *, hashed: bool) -> DataFrame:
        """Every row: raw narrow columns, file, row, and if `hashed` fingerprint and newest event (else 0, null)."""
        from pyspark.sql import types as T

        schema = T.StructType(list(self.narrow.fields))
        schema = schema.add(self.where["file"], T.StringType()).add(self.where["row"], T.LongType())
        schema = schema.add(HASH, T.LongType()).add(NEWEST, T.TimestampType())
        wide, newest = (self.wide, self.newest) if hashed else ({}, {})
        return self._map(
            self.pieces,
            scan_pieces(self.pieces, arrow(self.narrow), wide, newest, where=self.where, storage=self.storage),
            schema,
        )

    def take(self, files: np.ndarray, rows: np.ndarray, *, narrow: bool, only: tuple[str, ...] = ()) -> DataFrame:
        """The rows of the given file ids and numbers: `wide` columns typed, file, row, fingerprint as HASH.

        With `narrow` the raw narrow columns beside them. `only` keeps some of all these, HASHES being the fingerprints
        of the wide columns one by one.
        """
        from pyspark.sql import types as T

        schema = T.StructType(list(self.narrow.fields)) if narrow else T.StructType()
        for name, column in self.wide.items():
            kind = spark_type(column)
            schema = schema.add(name, kind)
        schema = schema.add(self.where["file"], T.StringType()).add(self.where["row"], T.LongType())
        schema = schema.add(HASH, T.LongType())
        if only:
            schema = T.StructType([f for f in schema.add(HASHES, T.ArrayType(T.LongType())) if f.name in only])
        asked = asking(self.pieces, files, rows)
        raw = arrow(self.narrow) if narrow else pa.schema([])
        take = take_pieces(asked, raw, self.wide, arrow(schema), where=self.where, storage=self.storage)
        return self._map(asked, take, schema)

    def _map(self, pieces: list[Piece], function: Any, schema: StructType) -> DataFrame:
        cores = self.spark.sparkContext.defaultParallelism
        tasks = max(1, min(len(pieces), max(cores, len(pieces) // PIECES)))
        return self.spark.range(0, len(pieces), 1, tasks).mapInArrow(sent(function), schema)


def direct_way(
    spark: SparkSession,
    spec: DatasetSpec,
    files: list[RawFile],
    raw: DataFrame,
    heads: list[str],
    *,
    places: tuple[str, str],
    storage: dict[str, Any],
) -> Direct | None:
    """The direct way to a raw log, or None where a request feature needs more than a cast that loses nothing.

    `heads` are the raw columns that the narrow columns are made of; `places` the names of file and row; `storage`
    PyArrow's options for S3. Files on S3 are read by nobody but workers, so that their names are not Spark's.
    """
    wide = {column.name: _wide(column, files[0].schema) for column in spec.columns("request", "sequence")}
    if spec.keys.request_id.expression is not None or any("." in name for name in raw.columns):
        return None
    taken = {name.lower() for name in (*wide, *places, HASH, NEWEST, HASHES)}
    if any(name.lower() in taken for name in heads):
        return None  # one name for two columns
    if any(name not in file.schema.names for file in files for name in (*heads, *(c.raw for c in wide.values() if c))):
        return None  # a column that came later, which some files lack
    known = {name: column for name, column in wide.items() if column is not None}
    if len(known) < len(wide):
        return None
    files = [file for file in files if file.rows]
    named = {file.path: file.path for file in files if on_s3(file.path)}
    if len(named) < len(files):
        # Spark's own names of the files, asked of Spark: `inputFiles` spells them in another way than `_metadata`.
        names = [row[0] for row in raw.select("_metadata.file_path").distinct().collect()]
        named |= {unquote(urlparse(name).path): name for name in names}
    if any(file.path not in named for file in files):
        return None
    pieces = []
    for file in files:
        firsts = accumulate(file.groups, initial=0)
        pieces += [Piece(file.uri, named[file.path], group, next(firsts)) for group in range(len(file.groups))]
    from pyspark.sql import types as T

    newest = {
        f"{group}_{sequence.time}": sequence.order == "oldest_first"
        for group, sequence in spec.sequences.items()
        if sequence.time is not None
    }
    narrow = T.StructType([raw.schema[name] for name in heads])
    where = {"file": places[0], "row": places[1], "hash": HASH, "newest": NEWEST, "hashes": HASHES}
    return Direct(spark, pieces, narrow, known, newest, where, storage)


def asking(pieces: list[Piece], files: np.ndarray, rows: np.ndarray) -> list[Piece]:
    """The pieces that hold the given rows, each with those of its own, in order."""
    by_file: dict[int, list[Piece]] = {}
    for piece in pieces:
        by_file.setdefault(file_id(piece.name), []).append(piece)
    found = []
    order = np.lexsort((rows, files))
    files, rows = files[order], rows[order]
    for name, mine in by_file.items():
        start, end = np.searchsorted(files, name, "left"), np.searchsorted(files, name, "right")
        wanted = rows[start:end]
        edges = np.searchsorted(wanted, [piece.first for piece in mine])
        for piece, part in zip(mine, np.split(wanted, edges[1:]), strict=True):
            if len(part):
                found.append(piece._replace(rows=part))
    return found


def file_id(name: str) -> int:
    """A file's name as Spark's xxhash64 of it."""
    value = xxhash.xxh64_intdigest(name.encode(), 42)
    return value - (1 << 64) if value >= 1 << 63 else value


def with_fingerprint(
    frame: DataFrame, columns: dict[str, SpecColumn], name: str, drop: tuple[str, ...] = (), *, each: bool = False
) -> DataFrame:
    """A frame typed as the spec says, with the fingerprint of `columns` as `name` and without `drop`: no wide scan.

    With `each`, `name` is the list of their fingerprints one by one.
    """
    from pyspark.sql import types as T

    fields = [field for field in frame.schema.fields if field.name not in (*drop, name)]
    schema = T.StructType([*fields, T.StructField(name, T.ArrayType(T.LongType()) if each else T.LongType())])
    wide = {key: Wide(key, column.type.element, column.type.shape != "scalar") for key, column in columns.items()}
    return frame.mapInArrow(sent(hash_columns(wide, arrow(schema), name)), schema)


def arrow(schema: StructType) -> pa.Schema:
    """The Arrow schema that Spark wants from a Python worker."""
    from pyspark.sql.pandas.types import to_arrow_schema

    return to_arrow_schema(schema)


def spark_type(column: Wide) -> Any:
    """The Spark type of a request feature."""
    from pyspark.sql.pandas.types import from_arrow_type

    element = from_arrow_type(TYPES[column.element])
    if not column.listed:
        return element
    from pyspark.sql import types as T

    return T.ArrayType(element)


def _wide(column: SpecColumn, schema: pa.Schema) -> Wide | None:
    """How a request feature is cast from its raw column; None where a cast is not enough."""
    if column.raw not in schema.names or column.feature is None:
        return None
    kind, listed, wanted = plain(schema.field(column.raw).type), column.type.shape != "scalar", column.type.element
    if listed != pa.types.is_list(kind):
        return None
    element = kind.value_type if listed else kind
    if wanted == "timestamp":
        exact = (pa.types.is_timestamp(element) and element.tz is not None) or (
            str(element) == "int64" and column.feature.unit == "us"
        )
    else:
        exact = held(element, wanted) == "all"
    return Wide(column.raw, wanted, listed) if exact else None
