"""A raw log as one: the files that a path, a folder or a pattern names, their schema, the first rows of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from glob import has_magic
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import orc

from lakehouse.errors import RawDataError
from lakehouse.raw.formats import Content, UnknownFormatError, in_microseconds, look
from lakehouse.raw.partitions import Values, guessed, partition_of, typed
from lakehouse.raw.places import Place, find_places, is_folder, on_s3, open_place
from lakehouse.settings import S3Settings, load_settings


@dataclass(frozen=True)
class LogFile:
    """One file of a log, and the values of the Hive folders right above it."""

    place: Place
    content: Content
    partition: Values

    @property
    def rows(self) -> int:
        """Its rows."""
        return self.content.rows

    def head(self, rows: int, most_bytes: int) -> pa.Table:
        """The first rows, without the folders' columns. Raises RawDataError for Avro, which PyArrow does not read."""
        taken: list[pa.RecordBatch] = []
        with open_file(self) as source:
            if self.content.format == "avro":
                raise RawDataError(f"{self.place.path} is Avro: give a sample of the log as Parquet or ORC")
            if self.content.format == "orc":
                stripes = orc.ORCFile(source)
                batches = (stripes.read_stripe(i) for i in range(stripes.nstripes))
            else:
                batches = pq.ParquetFile(source).iter_batches(batch_size=min(rows, 1024))
            for batch in batches:
                taken.append(batch)
                if sum(b.num_rows for b in taken) >= rows or sum(b.nbytes for b in taken) >= most_bytes:
                    break
        table = pa.Table.from_batches(taken).slice(0, rows)
        return table.cast(in_microseconds(table.schema)) if self.content.format == "orc" else table


def log_files(raw: str | Path) -> list[LogFile]:
    """The files of a log; in a folder or a pattern what begins as no log does is left out.

    Raises RawDataError where there are none, or one is not whole. On S3 the settings' `s3` section is used.
    """
    name = str(raw)
    s3, alone = _s3(name), not has_magic(name) and not is_folder(name, _s3(name))
    try:
        places = sorted(find_places(name, s3), key=lambda place: place.path.split("/"))
    except RawDataError as error:
        if on_s3(name):
            raise
        raise RawDataError(
            f"the raw log {raw} is neither a file, a folder nor a pattern that matches any: give Parquet, ORC or Avro "
            f"files, a folder of them, or a quoted pattern"
        ) from error
    found, broken = [], None
    for place in places:
        try:
            found.append(LogFile(place, look(place, s3), partition_of(place.path)[1]))
        except UnknownFormatError as error:
            if alone:
                raise
            broken = broken or error
    if found:
        return found
    if broken is not None:
        raise broken
    what = "holds no files" if not has_magic(name) else "is neither a file, a folder nor a pattern that matches any"
    raise RawDataError(f"the raw log {raw} {what}: give Parquet, ORC or Avro files, a folder or a quoted pattern")


def shared_schema(files: list[LogFile], raw: str | Path, folders: Mapping[str, pa.DataType]) -> pa.Schema:
    """The schema of files together; their folders' columns by `folders`, else by the values.

    Raises RawDataError where the files disagree, or a folder's value is not of its type.
    """
    try:
        schema = pa.unify_schemas(
            [file.content.schema.remove_metadata() for file in files], promote_options="permissive"
        )
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise RawDataError(
            f"the files of {raw} disagree on their columns: {error}. Ingest them as two datasets"
        ) from error
    values: dict[str, list[str | None]] = {}
    for file in files:
        for name, value in file.partition:
            values.setdefault(name, []).append(value)
    for name, mine in values.items():
        if name not in schema.names and len(mine) == len(files):
            kind = folders.get(name) or guessed(mine)
            typed(name, mine, kind, str(raw))
            schema = schema.append(pa.field(name, kind))
    return schema


def with_folders(table: pa.Table, file: LogFile, schema: pa.Schema) -> pa.Table:
    """A file's rows with its folders' columns, typed as `schema` says."""
    for name, value in file.partition:
        if name in schema.names and name not in table.column_names:
            column = typed(name, [value], schema.field(name).type, file.place.path)
            table = table.append_column(name, pa.repeat(column[0], table.num_rows).cast(column.type))
    return table


def open_file(file: LogFile) -> Any:
    """The file for reading: a PyArrow file."""
    return open_place(file.place, _s3(file.place.path))


def _s3(path: str) -> S3Settings | None:
    return load_settings().s3 if path.startswith("s3") else None
