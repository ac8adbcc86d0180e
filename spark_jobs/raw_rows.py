"""Raw rows read by PyArrow inside Spark's Python workers: ORC, whose times Spark would move to the JVM's zone, Parquet
on S3 where the session has no Hadoop for it, and files whose Hive partitions are wanted.

Spark gets this by value, as spark_jobs/worker.py: an executor needs pyarrow and numpy, and none of our packages.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs, orc

from spark_jobs import worker

ROWS = 1024  # rows that are handed to Spark at a time
Batches = Iterable[pa.RecordBatch]


class Part(NamedTuple):
    """What is decoded by itself: a file's row group, or (group -1) all its stripes one after the other.

    `first` is its first row in the file; `constants` are columns that the file's folders give, one value each.
    """

    uri: str
    name: str
    format: str
    group: int
    first: int
    constants: dict[str, pa.Array]


def read_rows(
    parts: list[Part], output: pa.Schema, file: str, row: str, storage: dict[str, Any]
) -> Callable[[Batches], Batches]:
    """A map from numbers of parts to their rows in `output`'s columns; `file` and `row` say where each lies.

    A column that a file lacks is null in all of its rows.
    """

    def read(batches: Batches) -> Batches:
        worker.forget_archives()
        for batch in batches:
            for number in batch.column(0).to_pylist():
                part = parts[number]
                try:
                    first = part.first
                    for rows in decoded(part, set(output.names), storage):
                        yield from rows_of(part, first, rows)
                        first += rows.num_rows
                except (pa.ArrowException, OSError) as error:
                    raise RuntimeError(f"FAILED_READ_FILE {part.uri}: {error}") from error

    def rows_of(part: Part, first: int, rows: pa.Table) -> Iterator[pa.RecordBatch]:
        for start in range(0, rows.num_rows, ROWS):
            some = rows.slice(start, ROWS)
            columns = []
            for field in output:
                if field.name == file:
                    column: pa.Array = pa.repeat(part.name, some.num_rows)
                elif field.name == row:
                    column = pa.array(np.arange(first + start, first + start + some.num_rows))
                elif field.name in part.constants:
                    column = pa.repeat(part.constants[field.name][0], some.num_rows).cast(field.type)
                elif field.name in some.column_names:
                    column = one(some.column(field.name).cast(field.type))
                else:
                    column = pa.nulls(some.num_rows, field.type)
                columns.append(column)
            yield pa.RecordBatch.from_arrays(columns, schema=output)

    return read


def number_rows(output: pa.Schema, file: str, row: str) -> Callable[[Batches], Batches]:
    """A map over rows that come file after file, each file's in order: `output`'s columns, `row` counting from 0."""

    def numbered(batches: Batches) -> Batches:
        worker.forget_archives()
        last, count = None, 0
        for batch in batches:
            names = np.array(batch.column(file).to_pylist(), object)
            begins = np.flatnonzero(np.r_[True, names[1:] != names[:-1]])[: len(names)]
            numbers = np.arange(len(names)) - np.repeat(begins, np.diff(np.r_[begins, len(names)]))
            if len(names) and names[0] == last:
                first = begins[1] if len(begins) > 1 else len(names)
                numbers[:first] += count
            if len(names):
                last, count = names[-1], numbers[-1] + 1
            columns = [pa.array(numbers) if f.name == row else batch.column(f.name).cast(f.type) for f in output]
            yield pa.RecordBatch.from_arrays(columns, schema=output)

    return numbered


def decoded(part: Part, names: set[str], storage: dict[str, Any]) -> Iterator[pa.Table]:
    """A part's rows, in order: those of `names` that it has."""
    if part.uri.startswith("s3"):
        system, path = fs.S3FileSystem(**storage), part.uri.split("://", 1)[1]
    else:
        system, path = fs.FileSystem.from_uri(part.uri)
    with system.open_input_file(path) as source:
        if part.format == "parquet":
            parquet = pq.ParquetFile(source)
            mine = [name for name in parquet.schema_arrow.names if name in names]
            for batch in parquet.iter_batches(8 * ROWS, row_groups=[part.group], columns=mine, use_threads=False):
                yield pa.Table.from_batches([batch])
            return
        stripes = orc.ORCFile(source)
        mine = [name for name in stripes.schema.names if name in names]
        for number in range(stripes.nstripes):
            yield pa.Table.from_batches([stripes.read_stripe(number, columns=mine)])


def one(column: pa.ChunkedArray) -> pa.Array:
    """A column in one piece."""
    whole = column.combine_chunks()
    return pa.concat_arrays(whole.chunks) if isinstance(whole, pa.ChunkedArray) else whole


def sent(function: Callable[[Batches], Batches]) -> Callable[[Batches], Batches]:
    """The function in a form that Spark pickles with the content of our modules, in place of their names."""
    from pyspark import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # type: ignore[no-untyped-call]
    return worker.sent(function)
