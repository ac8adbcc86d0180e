"""A sample of a raw log, read without Spark, and what its values say about each column.

The sample takes the first rows of up to 16 files. A log in time order inside its files, however its rows are spread
over them, so gives whole requests, which is what tells request features from candidate features.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from glob import glob
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lakehouse.errors import RawDataError
from lakehouse.raw.log import log_files, shared_schema, with_folders

MAX_FILES, MAX_ROWS, MAX_BYTES = 16, 40_000, 256 << 20
Codes = NDArray[np.uint64]


@dataclass(frozen=True)
class Groups:
    """Rows put into groups by some columns: `of` [n] is each row's group, 0 … count-1."""

    of: NDArray[np.int64]

    @cached_property
    def count(self) -> int:
        """How many groups there are."""
        return int(self.of.max()) + 1

    @cached_property
    def _runs(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        order = np.argsort(self.of, kind="stable")
        starts = np.flatnonzero(np.r_[True, np.diff(self.of[order]) != 0])
        return order, starts, np.diff(np.r_[starts, len(order)]) > 1

    @property
    def several(self) -> int:
        """How many groups hold two rows and more: only those tell whether a column is constant."""
        return int(self._runs[2].sum())

    def agreement(self, codes: Codes) -> float:
        """Share of the groups of two rows and more on which a column with these codes [n] is constant."""
        order, starts, several = self._runs
        if not several.any():
            return 1.0
        sorted_codes = codes[order]
        differs = np.r_[False, sorted_codes[1:] != sorted_codes[:-1]]
        differs[starts] = False
        same = np.add.reduceat(differs, starts, dtype=np.int64) == 0
        return float(np.mean(same[several]))


@dataclass(frozen=True)
class Sample:
    """Rows of a raw log; struct columns are flattened to dotted paths, as specs name them."""

    source: str
    table: pa.Table
    total_rows: int
    total_files: int

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The columns, in the log's order."""
        return tuple(self.table.column_names)

    @cached_property
    def _codes(self) -> dict[str, Codes]:
        return {}

    def codes(self, name: str) -> Codes:
        """[n] numbers that are equal where two rows hold equal values (lists by a 64-bit hash)."""
        if name not in self._codes:
            self._codes[name] = content_codes(self.table[name])
        return self._codes[name]

    def lengths(self, name: str) -> NDArray[np.int64]:
        """[n] lengths of a list column; -1 for null."""
        column = self.table[name].combine_chunks()
        lengths: NDArray[np.int64] = pc.fill_null(pc.list_value_length(column), -1).to_numpy(zero_copy_only=False)
        return lengths.astype(np.int64)

    def distinct(self, name: str) -> int:
        """How many values a column has in the sample, null included."""
        return len(np.unique(self.codes(name)))

    def share_null(self, name: str) -> float:
        """Share of rows without a value."""
        return float(self.table[name].null_count / max(1, self.table.num_rows))

    def vector_size(self, name: str) -> int | None:
        """The length of a float list column that has the same one, over 1, in every row; else None."""
        kind = self.table.schema.field(name).type
        if not is_list(kind) or not pa.types.is_floating(kind.value_type):
            return None
        known = self.lengths(name)
        known = known[known >= 0]
        return int(known[0]) if len(known) and known[0] > 1 and (known == known[0]).all() else None

    def groups(self, *names: str) -> Groups:
        """The rows grouped by the values of these columns."""
        mixed = np.zeros(self.table.num_rows, np.uint64)
        for name in names:
            mixed = _mix(mixed ^ self.codes(name))
        return Groups(np.unique(mixed, return_inverse=True)[1].astype(np.int64))

    def agreement(self, name: str, groups: Groups) -> float:
        """Share of the groups of two rows and more on which a column is constant."""
        return groups.agreement(self.codes(name))


def raw_files(raw: str | Path) -> list[Path]:
    """The Parquet files of a file, a folder or a glob pattern. Raises RawDataError where there are none."""
    path = Path(raw)
    if path.is_file():
        return [path]
    found = sorted(path.rglob("*.parquet")) if path.is_dir() else sorted(map(Path, glob(str(raw), recursive=True)))  # noqa: PTH207 (a pattern may be absolute)
    files = [f for f in found if f.is_file() and not f.name.startswith(("_", "."))]
    if not files:
        what = (
            "holds no .parquet files" if path.is_dir() else "is neither a file, a folder nor a pattern that matches any"
        )
        raise RawDataError(f"the raw log {raw} {what}. Give a Parquet file, a folder of them, or a quoted pattern")
    return files


def raw_schema(raw: str | Path, folders: Mapping[str, pa.DataType] | None = None) -> pa.Schema:
    """The schema of a raw log's files together; `folders`: types of Hive's partition columns, else told by the values.

    Raises RawDataError where files disagree or are no log's.
    """
    return shared_schema(log_files(raw), raw, folders or {})


def read_sample(raw: str | Path, rows: int = MAX_ROWS) -> Sample:
    """Read the first rows of up to 16 files spread over the log. Raises RawDataError for no files or no rows."""
    files = log_files(raw)
    total = sum(file.rows for file in files)
    if total == 0:
        raise RawDataError(f"the raw log {raw} has {len(files)} files and no row: nothing can be inferred from it")
    schema, filled = shared_schema(files, raw, {}), [file for file in files if file.rows]
    chosen = [filled[i] for i in np.unique(np.linspace(0, len(filled) - 1, min(MAX_FILES, len(filled))).astype(int))]
    each, most = -(-rows // len(chosen)), MAX_BYTES // len(chosen)
    parts = [with_folders(file.head(each, most), file, schema) for file in chosen]
    table = pa.concat_tables(
        [part.cast(pa.schema([schema.field(n) for n in part.column_names])) for part in parts],
        promote_options="default",
    )
    return Sample(str(raw), flatten(table), total, len(files))


def flatten(table: pa.Table) -> pa.Table:
    """Structs as `outer.inner` columns, lists of structs as one list column per field; repeated until none is left."""
    columns = dict(_flat(zip(table.column_names, table.columns, strict=True)))
    return pa.table(columns)


def _flat(columns: Iterable[tuple[str, pa.ChunkedArray]]) -> Iterator[tuple[str, pa.ChunkedArray]]:
    for name, column in columns:
        kind = column.type
        if pa.types.is_struct(kind):
            parts = [(f"{name}.{kind.field(i).name}", pc.struct_field(column, i)) for i in range(kind.num_fields)]
            yield from _flat(parts)
        elif (pa.types.is_list(kind) or pa.types.is_large_list(kind)) and pa.types.is_struct(kind.value_type):
            yield from _flat((f"{name}.{n}", pa.chunked_array([a])) for n, a in _list_fields(column.combine_chunks()))
        else:
            yield name, column


def _list_fields(column: pa.Array) -> Iterator[tuple[str, pa.Array]]:
    make = pa.LargeListArray if pa.types.is_large_list(column.type) else pa.ListArray
    inner = column.values
    for i in range(inner.type.num_fields):
        values = pc.struct_field(inner, i)
        yield (
            inner.type.field(i).name,
            make.from_arrays(column.offsets, values, mask=column.is_null() if column.null_count else None),
        )


def content_codes(column: pa.ChunkedArray) -> Codes:
    """[n] numbers that are equal where two rows hold equal values; of a list, a 64-bit hash of values and places."""
    column = column.combine_chunks()
    if not is_list(column.type):
        indices: NDArray[np.int32] = pc.dictionary_encode(column, null_encoding="encode").indices.to_numpy()
        return indices.astype(np.uint64)
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    values = column.flatten()
    inner = content_codes(pa.chunked_array([values])) if len(values) else np.zeros(0, np.uint64)
    start = np.r_[0, np.cumsum(lengths)]
    place = np.arange(len(values)) - np.repeat(start[:-1], lengths)
    terms = _mix(inner + np.uint64(1)) * (_mix(place.astype(np.uint64)) | np.uint64(1))
    total = np.r_[np.uint64(0), np.cumsum(terms, dtype=np.uint64)]
    null = column.is_null().to_numpy(zero_copy_only=False)
    hashed: Codes = _mix(total[start[1:]] - total[start[:-1]] + lengths.astype(np.uint64))
    return np.where(null, np.uint64(1), hashed)


def is_list(kind: pa.DataType) -> bool:
    """Whether a value of the type is a list."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _mix(x: Codes) -> Codes:
    """splitmix64's finaliser: spreads each input bit over the word; overflow wraps on purpose."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
