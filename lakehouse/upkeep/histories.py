"""Histories by hash: lists of a column that can be told again wherever they lie, in whatever width they are written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

EVIDENCE = 8
"""Events from which a list says whose it is: shorter ones, empty ones above all, are many users'."""


def is_listed(kind: pa.DataType) -> bool:
    """Whether a column holds lists."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def lengths(column: pa.Array) -> np.ndarray[Any, Any]:
    """Events of each row's list; 0 for a null."""
    return np.asarray(pc.fill_null(pc.list_value_length(column), 0))


def hashes(column: pa.Array, rows: np.ndarray[Any, Any]) -> Iterator[tuple[int, str]]:
    """(row, hash) of some rows' lists. An int32 is as an int64, a null as a zero, a time in microseconds."""
    if pa.types.is_fixed_size_list(column.type):
        column = column.cast(pa.list_(column.type.value_type))
    ends, content = np.asarray(column.offsets), _content(column.values)
    for row in rows.tolist():
        yield row, xxhash.xxh3_128_hexdigest(content(int(ends[row]), int(ends[row + 1])))


def _content(values: pa.Array) -> Callable[[int, int], bytes]:
    """What is hashed of values from one offset to another."""
    kind = values.type
    if pa.types.is_timestamp(kind):
        values = values.cast(pa.timestamp("us", kind.tz), safe=False).cast(pa.int64())
    elif pa.types.is_boolean(kind) or pa.types.is_integer(kind):
        values = values.cast(pa.int64())
    elif pa.types.is_floating(kind):
        values = values.cast(pa.float64())
    else:
        return lambda start, end: repr(values.slice(start, end - start).to_pylist()).encode()
    plain = np.asarray(pc.fill_null(values, 0))
    return lambda start, end: plain[start:end].tobytes()
