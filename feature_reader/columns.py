"""Arrow arrays of one row group to the numpy arrays of a batch: nulls filled, strings hashed, offsets int64.

Zero-copy where Arrow allows: a number column without nulls, also inside lists, becomes a view of Arrow's buffer.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_reader.errors import DataFileError
from feature_reader.layout import Field, hash_string

HASHES_KEPT = 1 << 20


class StringHashes:
    """xxhash64 of strings, each distinct one hashed once while it is remembered."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    def __call__(self, array: pa.Array, fill: int) -> np.ndarray:
        """Hashes int64 of a string or dictionary array; `fill` where null."""
        if not pa.types.is_dictionary(array.type):
            array = array.dictionary_encode()
        hashes = [self._hash(text) for text in array.dictionary.to_pylist()]
        table = np.array([*hashes, fill], dtype=np.int64)
        codes = array.indices
        if codes.null_count:
            codes = pc.fill_null(codes.cast(pa.int64()), len(hashes))
        hashed: np.ndarray = table[codes.to_numpy(zero_copy_only=False)]
        return hashed

    def _hash(self, text: str | None) -> int:
        if text is None:
            return 0
        value = self._known.get(text)
        if value is None:
            if len(self._known) >= HASHES_KEPT:
                self._known.clear()
            value = self._known[text] = hash_string(text)
        return value


def one_array(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """The column as one array; Parquet reads most row groups as one already."""
    if isinstance(column, pa.Array):
        return column
    if column.num_chunks == 1:
        return column.chunk(0)
    joined = column.combine_chunks()
    return pa.concat_arrays(joined.chunks) if isinstance(joined, pa.ChunkedArray) else joined


def leaf(array: pa.Array, field: Field, hashes: StringHashes) -> np.ndarray:
    """Values of a primitive array in the field's dtype, [n]; nulls become `field.fill`."""
    if field.element == "string":
        return hashes(array, int(field.fill))
    if field.element == "timestamp":
        array = array.cast(pa.timestamp("us", tz="UTC"), safe=False).view(pa.int64())
    if array.null_count:
        valid = array.is_valid().to_numpy(zero_copy_only=False)
        zero = pa.scalar(False) if pa.types.is_boolean(array.type) else pa.scalar(0).cast(array.type)
        values: np.ndarray = array.fill_null(zero).to_numpy(zero_copy_only=False).astype(field.dtype)
        values[~valid] = field.fill
        return values
    if pa.types.is_boolean(array.type):
        return np.asarray(array.to_numpy(zero_copy_only=False)).astype(field.dtype, copy=False)
    return view(array).astype(field.dtype, copy=False)


def view(array: pa.Array) -> np.ndarray:
    """A primitive array without nulls as numpy: its buffer itself, writable where Arrow allocated it."""
    dtype = array.type.to_pandas_dtype()
    buffer = array.buffers()[1]
    if buffer is None:
        return np.zeros(len(array), dtype)
    return np.frombuffer(buffer, dtype, count=len(array) + array.offset)[array.offset :]


def unwrap(array: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """A list array's values and its offsets [n + 1] (int64, from 0); a null list is an empty one.

    `flatten` honours slices and skips what null lists hide, which `.values` does not.
    """
    values = array.flatten()
    if array.null_count == 0:
        raw = array.offsets
        offsets = view(raw).astype(np.int64)
        return values, offsets - offsets[0] if len(offsets) else np.zeros(1, np.int64)
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    offsets = np.zeros(len(array) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return values, offsets


def vectors(array: pa.Array, field: Field, hashes: StringHashes, where: str) -> np.ndarray:
    """A list array whose lists all have `field.size` values as [n, size]; a null list is a row of fills."""
    values, offsets = unwrap(array)
    flat = leaf(values, field, hashes)
    lengths = np.diff(offsets)
    wrong = lengths != field.size
    if not wrong.any():
        return flat.reshape(len(array), field.size)
    null = array.is_null().to_numpy(zero_copy_only=False)
    if (wrong & ~null).any():
        row = int(np.argmax(wrong & ~null))
        raise DataFileError(
            f"{where}: column {field.name!r}, value {row} has {lengths[row]} elements, "
            f"the spec says vector<{field.element}, {field.size}>"
        )
    rows = np.full((len(array), field.size), field.fill, field.dtype)
    rows[~null] = flat.reshape(-1, field.size)
    return rows


def filled(field: Field, rows: int) -> np.ndarray:
    """What a file without the column gives: [rows] or [rows, size] of the fill."""
    shape: Any = (rows, field.size) if field.shape == "vector" else rows
    return np.full(shape, field.fill, field.dtype)
