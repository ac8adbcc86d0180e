"""What runs in Spark's Python workers: Parquet row groups decoded by PyArrow, and the fingerprint of request features.

Spark gets these functions by value (`sent`), so an executor needs pyarrow, numpy and xxhash, and none of our packages:
nothing else is imported here or in spark_jobs/arrow_fingerprint.py, and what a function is given is plain data.
"""

from __future__ import annotations

import sys
import zipimport
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from spark_jobs import arrow_fingerprint
from spark_jobs.arrow_fingerprint import (
    Wide,
    column_words,
    conform,
    each_fingerprint,
    newest_events,
    row_fingerprints,
    without_negative_zeros,
)

SLICE = 8192  # rows that are decoded at a time, at most
Batches = Iterable[pa.RecordBatch]


class Piece(NamedTuple):
    """A row group: its file's URI and Spark's name of it, its number, its first row in the file; `rows` to take."""

    uri: str
    name: str
    group: int
    first: int
    rows: np.ndarray | None = None


def hash_columns(columns: dict[str, Wide], output: pa.Schema, hash_name: str) -> Callable[[Batches], Batches]:
    """A map over frames typed as the spec says: `output`'s columns, with the fingerprint as `hash_name`.

    Where that is a list in `output`, it holds a fingerprint for each column.
    """
    listed = pa.types.is_list(output.field(hash_name).type)

    def hashed(batches: Batches) -> Batches:
        forget_archives()
        for batch in batches:
            words = [column_words(conform(batch.column(name), column), column) for name, column in columns.items()]
            own = each_fingerprint(words, len(batch)) if listed else pa.array(row_fingerprints(words, len(batch)))
            arrays = [(own if f.name == hash_name else batch.column(f.name)).cast(f.type) for f in output]
            yield pa.RecordBatch.from_arrays(arrays, schema=output)

    return hashed


def scan_pieces(
    pieces: list[Piece],
    narrow: pa.Schema,
    wide: dict[str, Wide],
    newest: dict[str, bool],
    *,
    where: dict[str, str],
    storage: dict[str, Any],
) -> Callable[[Batches], Batches]:
    """A map from numbers of pieces to their rows: raw columns of `narrow`, file, row, fingerprint, newest event.

    `wide` are the columns that the fingerprint takes, `newest` the timed sequences among them, with whether their
    newest event is the last. `where` names the columns for `file`, `row`, `hash` and `newest`.
    """
    raw = list(dict.fromkeys([*narrow.names, *(column.raw for column in wide.values())]))

    def scan(batches: Batches) -> Batches:
        for piece, first, table in decoded(pieces, raw, batches, storage):
            rows = table.num_rows
            words, times = [], []
            for name, column in wide.items():
                array = conform(whole(table, column.raw), column)
                words.append(column_words(array, column))
                if name in newest:
                    times.append((array, newest[name]))
            columns = {field.name: whole(table, field.name).cast(field.type) for field in narrow}
            columns[where["file"]] = pa.repeat(piece.name, rows)
            columns[where["row"]] = pa.array(np.arange(first, first + rows))
            columns[where["hash"]] = pa.array(row_fingerprints(words, rows))
            columns[where["newest"]] = newest_events(times, rows)
            yield pa.RecordBatch.from_pydict(columns)

    return scan


def take_pieces(
    pieces: list[Piece],
    narrow: pa.Schema,
    wide: dict[str, Wide],
    output: pa.Schema,
    *,
    where: dict[str, str],
    storage: dict[str, Any],
) -> Callable[[Batches], Batches]:
    """A map from numbers of pieces to the rows that these ask for: raw columns of `narrow`, the `wide` ones typed.

    `output` says which columns and types; beside those, `where` names the columns for `file`, `row`, `hash` (the
    fingerprint) and `hashes` (one for each wide column), of which those are made that `output` has.
    """
    raw = list(dict.fromkeys([*narrow.names, *(column.raw for column in wide.values())]))

    def take(batches: Batches) -> Batches:
        for piece, first, table in decoded(pieces, raw, batches, storage):
            wanted = np.zeros(0, np.int64) if piece.rows is None else piece.rows
            mine = wanted[(wanted >= first) & (wanted < first + table.num_rows)]
            for start in range(0, len(mine), 1024):
                some = mine[start : start + 1024]
                places = pa.array(some - first)
                columns: dict[str, pa.Array] = {f.name: whole(table, f.name).take(places) for f in narrow}
                found = {n: conform(whole(table, c.raw).take(places), c) for n, c in wide.items()}
                typed = {n: without_negative_zeros(array) for n, array in found.items()}
                columns |= typed
                columns[where["file"]] = pa.repeat(piece.name, len(some))
                columns[where["row"]] = pa.array(some)
                if where["hash"] in output.names or where["hashes"] in output.names:
                    words = [column_words(typed[name], column) for name, column in wide.items()]
                    columns[where["hash"]] = pa.array(row_fingerprints(words, len(some)))
                    columns[where["hashes"]] = each_fingerprint(words, len(some))
                arrays = [columns[field.name].cast(field.type) for field in output]
                yield pa.RecordBatch.from_arrays(arrays, schema=output)

    return take


def decoded(
    pieces: list[Piece], raw: list[str], batches: Batches, storage: dict[str, Any]
) -> Iterator[tuple[Piece, int, pa.Table]]:
    """The pieces of the given numbers, at most SLICE rows at a time, with each slice's first row in the file."""
    forget_archives()
    opened: tuple[str, pq.ParquetFile] | None = None
    for batch in batches:
        for number in batch.column(0).to_pylist():
            piece = pieces[number]
            try:
                if opened is None or opened[0] != piece.uri:
                    opened = piece.uri, open_parquet(piece.uri, storage)
                for first, table in slices(opened[1], piece, raw):
                    yield piece, first, table
            except (pa.ArrowException, OSError) as error:
                raise RuntimeError(f"FAILED_READ_FILE {piece.uri}: {error}") from error


def slices(file: pq.ParquetFile, piece: Piece, raw: list[str]) -> Iterator[tuple[int, pa.Table]]:
    """A row group in one piece where it is small, else SLICE rows at a time; each with its first row in the file."""
    if file.metadata.row_group(piece.group).num_rows <= SLICE:
        yield piece.first, file.read_row_group(piece.group, columns=raw, use_threads=False)
        return
    first = piece.first
    for part in file.iter_batches(SLICE, row_groups=[piece.group], columns=raw, use_threads=False):
        yield first, pa.Table.from_batches([part])
        first += len(part)


def open_parquet(uri: str, storage: dict[str, Any]) -> pq.ParquetFile:
    """A Parquet file by its URI; `storage` are PyArrow's S3FileSystem options, for URIs on S3."""
    if uri.startswith("s3"):
        system, path = fs.S3FileSystem(**storage), uri.split("://", 1)[1]
    else:
        system, path = fs.FileSystem.from_uri(uri)
    return pq.ParquetFile(system.open_input_file(path))


def whole(table: pa.Table, name: str) -> pa.Array:
    """A column in one piece."""
    column = table.column(name).combine_chunks()
    return pa.concat_arrays(column.chunks) if isinstance(column, pa.ChunkedArray) else column


def forget_archives() -> None:
    """Drop the finders of packages in zip archives from Python's cache: it makes them anew where one is needed.

    Before each task Spark has every cached finder read its archive's directory again. There is one for each package of
    pyspark.zip that was imported: 0.2 s of each task.
    """
    for place, finder in list(sys.path_importer_cache.items()):
        if isinstance(finder, zipimport.zipimporter):
            del sys.path_importer_cache[place]


def sent(function: Callable[[Batches], Batches]) -> Callable[[Batches], Batches]:
    """The function in a form that Spark pickles with the content of our modules, in place of their names."""
    from pyspark import cloudpickle

    for module in (sys.modules[__name__], arrow_fingerprint):
        cloudpickle.register_pickle_by_value(module)  # type: ignore[no-untyped-call]
    return function
