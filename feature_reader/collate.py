"""From the decoded units of a window to batches: the window's requests, gathered in the epoch's order.

Rows are moved by memory copies, never by an index per value: a jagged row is a run of bytes, so Arrow's `take` on a
binary array over the same buffers copies it whole (8 GB/s on the machine where decoding is 1, and numpy's index arrays
2). Short rows are taken from the window's units joined once. For rows of `LONG` bytes the join would cost as much as
the copy: `bytearray.join` copies them straight from their units, 0.1 µs a row besides the copying.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from feature_reader.arrays import Array, concat, offsets_of
from feature_reader.batch import Jagged, Origin, RequestBatch

LONG = 2048


class _Values:
    """A column's values in each unit; joined on first need, which frees the parts."""

    def __init__(self, parts: list[Array]) -> None:
        self.parts = parts
        self.nbytes = sum(p.nbytes for p in parts)

    def joined(self) -> Array:
        if len(self.parts) > 1:
            self.parts = [concat(self.parts)]
        return self.parts[0]


@dataclass(frozen=True)
class _Column:
    """One column of the window. `spans` [n + 1]: where each request's values begin, as if the units were joined.

    `spans` is None for one value per request; `jagged` for a list per request; `lengths` of a list per candidate.
    """

    values: _Values
    spans: np.ndarray | None = None
    jagged: bool = False
    lengths: _Values | None = None


class Window:
    """The decoded units of one window. `take` is for one thread at a time."""

    gives_views = False
    """Whether a batch was taken that shares the units' memory."""

    def __init__(self, units: Sequence[RequestBatch]) -> None:
        self.base = offsets_of(np.array([u.R for u in units], dtype=np.int64))
        self._alone = units[0] if len(units) == 1 else None
        offsets: dict[tuple[int, ...], np.ndarray] = {}

        def joined(parts: list[Array]) -> np.ndarray:
            key = tuple(map(id, parts))
            if key not in offsets:
                offsets[key] = offsets_of(concat([np.diff(p) for p in parts]))
            return offsets[key]

        self.outer = joined([u.candidate_offsets for u in units])
        self._request: dict[str, _Column] = {}
        for name, first in units[0].request.items():
            columns = [u.request[name] for u in units]
            if isinstance(first, Jagged):
                spans = joined([c.offsets for c in columns])
                self._request[name] = _Column(_Values([c.values for c in columns]), spans, jagged=True)
            else:
                self._request[name] = _Column(_Values(columns))
        self._candidates: dict[str, _Column] = {}
        for name, first in units[0].candidates.items():
            columns = [u.candidates[name] for u in units]
            if isinstance(first, Jagged):
                inner = joined([c.offsets for c in columns])
                lengths = _Values([np.diff(inner)])
                values = _Values([c.values for c in columns])
                self._candidates[name] = _Column(values, inner[self.outer], lengths=lengths)
            else:
                self._candidates[name] = _Column(_Values(columns), self.outer)

    def take(self, slot: np.ndarray, row: np.ndarray, origin: Origin | None = None) -> RequestBatch:
        """Requests by unit (index into `units`) and row of the unit, int64 [m] each, as one batch."""
        if self._alone is not None and len(row) and (np.diff(row) == 1).all():
            self.gives_views = True  # in file order: no copy
            cut = self._alone.slice(int(row[0]), int(row[-1]) + 1)
            return RequestBatch(cut.request, cut.candidates, cut.candidate_offsets, origin=origin)
        gather = _Gather(self, slot, row)
        return RequestBatch(
            {name: gather.column(column) for name, column in self._request.items()},
            {name: gather.column(column) for name, column in self._candidates.items()},
            gather.offsets(self.outer),
            origin=origin,
        )


class _Gather:
    """One `take`: what its columns share (row numbers, offsets) is computed once."""

    def __init__(self, window: Window, slot: np.ndarray, row: np.ndarray) -> None:
        self._slot, self._base, self._outer = slot, window.base, window.outer
        self._pooled = window.base[slot] + row
        self._index = pa.array(self._pooled)
        self._offsets: dict[int, np.ndarray] = {}
        self._bytes: dict[tuple[int, int], list[tuple[int, int, int]]] = {}

    def column(self, column: _Column) -> Array | Jagged:
        if column.spans is None:
            return np.take(column.values.joined(), self._pooled, axis=0)
        values = self._ranges(column.values, column.spans)
        if column.jagged:
            return Jagged(values, self.offsets(column.spans))
        if column.lengths is not None:
            return Jagged(values, offsets_of(self._ranges(column.lengths, self._outer)))
        return values

    def offsets(self, spans: np.ndarray) -> np.ndarray:
        """The result's offsets [m + 1]; the same object for the same spans."""
        if id(spans) not in self._offsets:
            self._offsets[id(spans)] = offsets_of(spans[self._pooled + 1] - spans[self._pooled])
        return self._offsets[id(spans)]

    def _ranges(self, values: _Values, spans: np.ndarray) -> np.ndarray:
        """The values of each request's range, one after the other."""
        if len(values.parts) > 1 and values.nbytes >= LONG * (len(spans) - 1):
            first = values.parts[0]
            width = first.itemsize * int(np.prod(first.shape[1:]))
            bytes_of = [memoryview(part.reshape(-1)).cast("B") for part in values.parts]
            joined = bytearray().join([bytes_of[unit][start:stop] for unit, start, stop in self._spans(spans, width)])
            return np.frombuffer(joined, first.dtype).reshape(-1, *first.shape[1:])
        return _take_ranges(values.joined(), spans, self._index)

    def _spans(self, spans: np.ndarray, width: int) -> list[tuple[int, int, int]]:
        """Unit, first and last byte of each request's range within its unit."""
        key = (id(spans), width)
        if key not in self._bytes:
            starts = (spans[self._pooled] - spans[self._base[self._slot]]) * width
            stops = starts + (spans[self._pooled + 1] - spans[self._pooled]) * width
            self._bytes[key] = list(zip(self._slot.tolist(), starts.tolist(), stops.tolist(), strict=True))
        return self._bytes[key]


def _take_ranges(values: np.ndarray, spans: np.ndarray, index: pa.Array) -> np.ndarray:
    """Rows `index` of the jagged (values, spans): each row one copy of its bytes."""
    if len(values) == 0 or len(index) == 0:
        return values[:0]
    width = values.nbytes // len(values)
    rows = pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), len(spans) - 1, [None, pa.py_buffer(spans * width), pa.py_buffer(values)]
    ).take(index)
    first, last = np.frombuffer(rows.buffers()[1], np.int64, count=len(rows) + 1)[[0, -1]]
    if last == first:
        return values[:0]
    taken = np.frombuffer(rows.buffers()[2], values.dtype, count=int(last) // values.itemsize)
    return taken.reshape(-1, *values.shape[1:])
