"""Data files: opened through the table's FileIO, columns found by Iceberg field id, errors that name the file."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io import FileIO
from pyiceberg.table.name_mapping import NameMapping
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from feature_reader.errors import DataFileError, UnsupportedError

FOOTERS_KEPT = 64
ATTEMPTS = 3
FIELD_ID = b"PARQUET:field_id"
T = TypeVar("T")


def bare_path(path: str) -> str:
    """A path without its scheme: `file:/x`, `file:///x` and `/x` are one file, as are `s3://b/x` and `s3a://b/x`."""
    scheme, colon, rest = path.partition(":")
    if not colon or "/" in scheme:
        return path
    return "/" + rest.lstrip("/") if scheme == "file" else rest.lstrip("/")


@dataclass(frozen=True)
class Footer:
    """What a Parquet file says of itself, read once: its metadata, and its columns by field id."""

    metadata: pq.FileMetaData
    present: dict[int, str]
    """Field id to the top-level column's name in this file."""
    strings: tuple[str, ...]
    """Leaf paths that hold strings: read as dictionaries, so that each distinct one is hashed once."""
    leaves: dict[str, tuple[int, ...]]
    """Top-level name to its leaf column indices."""


class DataFiles:
    """Opens a table's data files. Safe to use from several threads; keeps no file open between calls."""

    def __init__(self, io: FileIO, mapping: NameMapping | None) -> None:
        self._io = io
        self._mapping = mapping
        self._footers: OrderedDict[str, Footer] = OrderedDict()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return DataFiles, (self._io, self._mapping)

    def footer(self, path: str) -> Footer:
        """A file's footer, from memory where it was read lately."""
        with self._lock:
            if path in self._footers:
                self._footers.move_to_end(path)
                return self._footers[path]
        with file_errors(path):
            found = retried(lambda: self._read_footer(path))
        with self._lock:
            self._footers[path] = found
            if len(self._footers) > FOOTERS_KEPT:
                self._footers.popitem(last=False)
        return found

    def read(self, path: str, row_group: int, columns: list[str]) -> pa.Table:
        """These columns (the file's own names) of one row group; `columns` may be empty."""
        footer = self.footer(path)

        def once() -> pa.Table:
            with (
                self._io.new_input(path).open() as source,
                pq.ParquetFile(
                    source, metadata=footer.metadata, read_dictionary=list(footer.strings), pre_buffer="://" in path
                ) as file,
            ):
                return file.read_row_group(row_group, columns=columns, use_threads=False)

        with file_errors(path):
            return retried(once)

    def _read_footer(self, path: str) -> Footer:
        with self._io.new_input(path).open() as source, pq.ParquetFile(source) as file:
            metadata, schema = file.metadata, file.schema_arrow
        present = {int(f.metadata[FIELD_ID]): f.name for f in schema if f.metadata and FIELD_ID in f.metadata}
        if not present:
            if self._mapping is None:
                raise UnsupportedError(
                    f"{path} carries no Iceberg field ids and the table has no schema.name-mapping.default: "
                    "set the mapping, or rewrite the file with Iceberg"
                )
            present = {
                m.field_id: name
                for m in self._mapping.root
                for name in m.names
                if m.field_id is not None and name in schema.names
            }
        leaves: dict[str, tuple[int, ...]] = {}
        strings = []
        for i in range(metadata.num_columns):
            column = metadata.schema.column(i)
            top = column.path.split(".")[0]
            leaves[top] = (*leaves.get(top, ()), i)
            if column.logical_type.type == "STRING":
                strings.append(column.path)
        return Footer(metadata, present, tuple(strings), leaves)


def retried(read: Callable[[], T]) -> T:
    """The result of `read`, tried again with growing pauses where an I/O error may pass."""
    return Retrying(
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_random_exponential(multiplier=0.1, max=2),
        retry=retry_if_exception(is_transient),
        reraise=True,
    )(read)


@contextmanager
def file_errors(path: str) -> Iterator[None]:
    """Turn what reading raises into one DataFileError that names the file and the likely cause."""
    try:
        yield
    except FileNotFoundError as error:
        raise DataFileError(
            f"the snapshot's file {path} is not there: it was removed by hand or its snapshot was expired while "
            "being read. Tag the snapshot that you train on, or read a newer one"
        ) from error
    except pa.ArrowInvalid as error:
        raise DataFileError(f"{path} is not readable Parquet, is it truncated? {error}") from error
    except OSError as error:
        raise DataFileError(f"cannot read {path} after {ATTEMPTS} attempts: {error}") from error


def is_transient(error: BaseException) -> bool:
    """Whether trying again may help: an I/O error other than a file that is not there or not ours."""
    lasting = (FileNotFoundError, PermissionError, IsADirectoryError)
    return isinstance(error, OSError) and not isinstance(error, lasting)
