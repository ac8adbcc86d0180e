"""A batch as Arrow and as pandas, and Arrow back to a batch.

In Arrow a row is a request and its candidates are lists. Numbers are not copied: a column's buffer is the batch's own
array, and lists have 64-bit offsets (`large_list`), as the batch has. Only bools are, since Arrow packs them into bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from feature_reader.arrays import Array
from feature_reader.batch import Columns, Jagged, RequestBatch
from feature_reader.columns import view
from feature_reader.errors import ReaderError
from lakehouse.errors import NotInstalledError

if TYPE_CHECKING:
    import pandas as pd

PART, PADDING = b"reqlake.part", b"reqlake.padding"
CANDIDATES = "candidate_offsets"
"""The name of the lists of nothing that stand for the candidates of a batch without a candidate column."""


def to_arrow(batch: RequestBatch) -> pa.RecordBatch:
    """One row a request: vectors as fixed-size lists, jagged columns and candidates as large lists."""
    batch = batch.numpy()
    arrays, fields = [], []
    for name, column in batch.request.items():
        arrays.append(_array(column))
        fields.append(pa.field(name, arrays[-1].type, nullable=False, metadata={PART: b"request"}))
    candidates: Columns = batch.candidates or {CANDIDATES: np.zeros(batch.C, np.int8)}
    for name, column in candidates.items():
        arrays.append(_lists(batch.candidate_offsets, _array(column)))
        fields.append(pa.field(name, arrays[-1].type, nullable=False, metadata={PART: b"candidates"}))
    schema = pa.schema(fields, metadata={PADDING: str(batch.padding).encode()})
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def from_arrow(rows: pa.RecordBatch) -> RequestBatch:
    """The batch that `to_arrow` was given. Raises ReaderError for rows that it did not make."""
    parts: dict[str, dict[str, Array | Jagged]] = {"request": {}, "candidates": {}}
    offsets = None
    for field, column in zip(rows.schema, rows.columns, strict=True):
        part = (field.metadata or {}).get(PART, b"").decode()
        array = column
        if part == "candidates":
            offsets, array = _offsets(column), column.flatten()
        elif part != "request":
            raise ReaderError(f"column {field.name!r} does not say what it is of: these rows are not of to_arrow")
        parts[part][field.name] = _column(array)
    if offsets is None:
        raise ReaderError("no column of candidates: these rows are not of to_arrow")
    parts["candidates"].pop(CANDIDATES, None)
    padding = int((rows.schema.metadata or {}).get(PADDING, b"0"))
    return RequestBatch(_shared(parts["request"]), _shared(parts["candidates"]), offsets, padding)


def to_pandas(batch: RequestBatch) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A frame of the requests, and one of the candidates with `request` as index: the row of their request."""
    try:
        import pandas as pd
    except ModuleNotFoundError as error:
        raise NotInstalledError("pandas", "quality") from error
    batch = batch.numpy()
    requests = pd.DataFrame({name: _cells(column) for name, column in batch.request.items()}, index=range(batch.R))
    owner = pd.Index(batch.request_index, name="request")
    return requests, pd.DataFrame({name: _cells(column) for name, column in batch.candidates.items()}, index=owner)


def _array(column: Array | Jagged) -> pa.Array:
    if isinstance(column, Jagged):
        return _lists(column.offsets, _array(column.values))
    if column.ndim == 2:
        return pa.FixedSizeListArray.from_arrays(_array(np.ascontiguousarray(column).reshape(-1)), column.shape[1])
    if column.dtype == np.bool_:
        return pa.array(column)
    whole = np.ascontiguousarray(column)
    return pa.Array.from_buffers(pa.from_numpy_dtype(whole.dtype), len(whole), [None, pa.py_buffer(whole)])


def _lists(offsets: Array, values: pa.Array) -> pa.Array:
    whole = np.ascontiguousarray(offsets, np.int64)
    kind = pa.large_list(pa.field("item", values.type, nullable=False))
    return pa.Array.from_buffers(kind, len(whole) - 1, [None, pa.py_buffer(whole)], children=[values])


def _column(array: pa.Array) -> Array | Jagged:
    if pa.types.is_large_list(array.type):
        return Jagged(_column(array.flatten()), _offsets(array))
    if pa.types.is_fixed_size_list(array.type):
        return np.asarray(_column(array.flatten())).reshape(len(array), array.type.list_size)
    return array.to_numpy(zero_copy_only=False) if pa.types.is_boolean(array.type) else view(array)


def _offsets(array: pa.Array) -> np.ndarray:
    raw = view(array.offsets)
    return raw if raw[0] == 0 else raw - raw[0]


def _shared(columns: dict[str, Array | Jagged]) -> dict[str, Array | Jagged]:
    """The columns, those with equal offsets sharing one array, as a sequence's fields do."""
    seen: list[np.ndarray] = []

    def one(offsets: np.ndarray) -> np.ndarray:
        for known in seen:
            if np.array_equal(known, offsets):
                return known
        seen.append(offsets)
        return offsets

    return {n: Jagged(c.values, one(c.offsets)) if isinstance(c, Jagged) else c for n, c in columns.items()}


def _cells(column: Array | Jagged) -> Any:
    """A column as pandas takes it: what is more than a scalar as one array for each row, a view."""
    if not isinstance(column, Jagged) and column.ndim == 1:
        return column
    cells = np.empty(len(column), dtype=object)
    for i in range(len(column)):
        cells[i] = column.row(i) if isinstance(column, Jagged) else column[i]
    return cells
