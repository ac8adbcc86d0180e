"""The fingerprint of request features, defined once, on Arrow arrays.

A row's fingerprint is a key for good. Each column becomes a flag byte and a 64-bit word, little-endian:

- scalar: its bits, widened to 64 (floats as IEEE bits of the spec's width, times as microseconds, bools as 0 and 1);
  a string: xxh3 of its UTF-8; null: word 0, flag 1;
- list or vector: xxh3 of its elements' bytes at the width of the spec's type; of strings, xxh3 of their UTF-8 on end,
  seeded with xxh3 of their byte lengths (int32); null: word 0, flag 1;
- a list that holds nulls: these count as zero (or as the empty string), the word so far seeds xxh3 of one byte an
  element (1 where it is null), flag 2.

The row's fingerprint is xxh3 of all flags followed by all words, as int64; 0 where there are no columns. `-0.0` counts
as `0.0`, and every NaN as one.

It is taken in Spark's Python workers too (spark_jobs/worker.py), so numpy, pyarrow and xxhash are all that it imports.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from xxhash import xxh3_64_intdigest

TYPES = {
    "bool": pa.bool_(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "string": pa.string(),
    "timestamp": pa.timestamp("us", "UTC"),
}


class Wide(NamedTuple):
    """A request feature: its raw column, its element type in the spec, whether it is a list."""

    raw: str
    element: str
    listed: bool


def conform(array: pa.Array, column: Wide) -> pa.Array:
    """A raw column as the spec's type. Only for casts that lose nothing."""
    wanted = TYPES[column.element]
    return array.cast(pa.list_(wanted) if column.listed else wanted)


def without_negative_zeros(array: pa.Array) -> pa.Array:
    """A conformed column with `0.0` for `-0.0`: rows of one fingerprint hold the same values."""
    child = array.values if pa.types.is_list(array.type) else array
    if not pa.types.is_floating(child.type):
        return array
    values = child.to_numpy(zero_copy_only=False)
    if not np.any((values == 0) & np.signbit(values)):
        return array
    plain = pc.add(child, pa.scalar(0.0, child.type))
    if child is array:
        return plain
    offsets = pa.array(array.offsets.to_numpy(), pa.int32(), mask=np.append(array.is_null().to_numpy(False), False))
    return pa.ListArray.from_arrays(offsets, plain)


def column_words(array: pa.Array, column: Wide) -> tuple[np.ndarray, np.ndarray]:
    """Flags uint8 [n] and words uint64 [n] of a conformed column."""
    flags = array.is_null().to_numpy(zero_copy_only=False).astype(np.uint8)
    if column.listed:
        words, holes = _list_words(array, column.element)
        flags[holes] = 2
        flags[array.is_null().to_numpy(zero_copy_only=False)] = 1
    elif column.element == "string":
        offsets, text = _text(array)
        words = _digests(offsets, text.data)
    else:
        values = _values(array, column.element)
        # A bit pattern is widened with zeros, a number with its sign.
        words = values.astype(np.int64).view(np.uint64) if values.dtype.kind == "i" else values.astype(np.uint64)
    words[flags == 1] = 0
    return flags, words


def row_fingerprints(columns: Sequence[tuple[np.ndarray, np.ndarray]], rows: int) -> np.ndarray:
    """int64 [rows] of the flags and words of columns."""
    if not columns:
        return np.zeros(rows, np.int64)
    count = len(columns)
    record = np.empty((rows, 9 * count), np.uint8)
    for i, (flags, words) in enumerate(columns):
        record[:, i] = flags
        record[:, count + 8 * i : count + 8 * i + 8] = words.astype("<u8").view(np.uint8).reshape(rows, 8)
    offsets = np.arange(rows + 1) * (9 * count)
    return _digests(offsets, record.reshape(-1).data).view(np.int64)


def each_fingerprint(columns: Sequence[tuple[np.ndarray, np.ndarray]], rows: int) -> pa.ListArray:
    """A list of int64 for each row: the fingerprints of its columns, taken one by one."""
    each = np.array([row_fingerprints([column], rows) for column in columns], np.int64)
    offsets = pa.array(np.arange(rows + 1, dtype=np.int32) * len(columns))
    return pa.ListArray.from_arrays(offsets, pa.array(each.T.reshape(-1)))


def newest_events(sequences: Sequence[tuple[pa.Array, bool]], rows: int) -> pa.Array:
    """The newest time of lists of times (each with whether its newest is the last); null where there is none."""
    ends = []
    for array, newest_last in sequences:
        offsets = array.offsets.to_numpy().astype(np.int64)
        places = offsets[1:] - 1 if newest_last else offsets[:-1]
        none = (offsets[1:] == offsets[:-1]) | array.is_null().to_numpy(zero_copy_only=False)
        ends.append(array.values.cast(pa.int64()).take(pa.array(places, mask=none)))
    if not ends:
        return pa.nulls(rows, TYPES["timestamp"])
    return pc.max_element_wise(*ends).cast(TYPES["timestamp"])


def _list_words(array: pa.Array, element: str) -> tuple[np.ndarray, np.ndarray]:
    """Words of lists, and which of them hold nulls (bool [n])."""
    offsets = array.offsets.to_numpy().astype(np.int64)
    start = int(offsets[0]) if len(offsets) else 0
    child = array.values.slice(start, int(offsets[-1]) - start)
    offsets = offsets - start
    if element == "string":
        inner, text = _text(child)
        lengths = np.diff(inner).astype("<i4")
        seeds = _digests(4 * offsets, lengths.view(np.uint8).data)
        words = _digests(inner[offsets], text.data, seeds)
    else:
        values = np.ascontiguousarray(_values(child, element))
        words = _digests(offsets * values.itemsize, values.view(np.uint8).data)
    if not child.null_count:
        return words, np.zeros(len(array), bool)
    places = child.is_null().to_numpy(zero_copy_only=False).astype(np.uint8)
    before = np.concatenate([[0], np.cumsum(places, dtype=np.int64)])
    holes = before[offsets[1:]] > before[offsets[:-1]]
    for i in np.flatnonzero(holes).tolist():
        words[i] = xxh3_64_intdigest(places[offsets[i] : offsets[i + 1]].tobytes(), int(words[i]))
    return words, holes


def _digests(offsets: np.ndarray, data: memoryview, seeds: np.ndarray | None = None) -> np.ndarray:
    """xxh3 of each slice of bytes: uint64 [n] of offsets [n + 1]."""
    places = offsets.tolist()
    if seeds is None:
        found = [xxh3_64_intdigest(data[a:b]) for a, b in itertools.pairwise(places)]
    else:
        each = zip(itertools.pairwise(places), seeds.tolist(), strict=True)
        found = [xxh3_64_intdigest(data[a:b], seed) for (a, b), seed in each]
    return np.array(found, np.uint64)


def _values(array: pa.Array, element: str) -> np.ndarray:
    """Canonical values [n], little-endian, null as 0: bools and floats as unsigned bits, else signed numbers."""
    if element == "timestamp":
        array = array.cast(pa.int64())
    if element == "bool":
        return np.asarray(array.fill_null(False).cast(pa.uint8()).to_numpy(zero_copy_only=False))
    values = (array.fill_null(0) if array.null_count else array).to_numpy(zero_copy_only=False)
    if values.dtype.kind == "f":
        values = values + values.dtype.type(0)  # -0.0 becomes 0.0
        strange = np.isnan(values)
        if strange.any():
            values[strange] = np.nan
        values = values.view(np.uint32 if values.dtype.itemsize == 4 else np.uint64)
    return np.asarray(values)


def _text(array: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Offsets int64 [n + 1] from 0 and the UTF-8 of strings; null is empty."""
    array = array.fill_null("") if array.null_count else array
    if not len(array):
        return np.zeros(1, np.int64), np.zeros(0, np.uint8)
    _, places, data = array.buffers()
    offsets = np.frombuffer(places, np.int32)[array.offset : array.offset + len(array) + 1].astype(np.int64)
    text = np.frombuffer(data, np.uint8) if data is not None and data.size else np.zeros(0, np.uint8)
    return offsets - offsets[0], text[offsets[0] : offsets[-1]]
