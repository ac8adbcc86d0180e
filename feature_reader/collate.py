"""From the decoded units of a window to batches: the window's requests, gathered in the epoch's order.

Rows are moved by memory copies, never by an index per value: a jagged row is a run of bytes in its unit's buffer, and
so one entry of an Arrow binary view over the buffers of all units. Making that array a plain one copies each row once,
out of the GIL, into memory that Arrow keeps between uses: 8 GB/s on the machine where decoding is 1. numpy's index
arrays reach 2; rows joined as Python bytes 8 too, but 3 where the result lies in fresh pages.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_reader.arrays import Array, concat, offsets_of
from feature_reader.batch import Jagged, Origin, RequestBatch

VIEW = np.dtype([("size", "<i4"), ("prefix", "<i4"), ("buffer", "<i4"), ("offset", "<i4")])
INLINE = 12
"""Bytes of a row that lie in the view itself."""
REACH = 30
"""A view reaches 2^31 bytes into a buffer: a larger one is given anew from each 2^30 of its bytes on."""


class _Values:
    """A column's values in each unit, or one array of all units', as bytes to be copied from."""

    def __init__(self, parts: Sequence[Array]) -> None:
        self._dtype, self._tail = parts[0].dtype, parts[0].shape[1:]
        self.width = parts[0].itemsize * math.prod(self._tail)
        """Bytes of a value."""
        self.joined = len(parts) == 1
        self._flat = [np.ascontiguousarray(p).reshape(-1).view(np.uint8) for p in parts]
        reaches = [range(0, max(1, len(p)), 1 << REACH) for p in self._flat]
        self._buffers = [pa.py_buffer(p[at:]) for p, reach in zip(self._flat, reaches, strict=True) for at in reach]
        self.first_buffer = np.cumsum([0, *map(len, reaches[:-1])])
        """Of each part its first buffer."""

    def copied(self, rows: _Rows) -> np.ndarray:
        """The rows, one after the other: [sum of their lengths, …]."""
        if rows.total == 0:
            return np.zeros((0, *self._tail), self._dtype)
        views = self._inlined(rows) if len(rows.short) else rows.views
        array = pa.Array.from_buffers(pa.binary_view(), len(views), [None, pa.py_buffer(views), *self._buffers])
        values = np.frombuffer(
            pc.cast(array, pa.large_binary()).buffers()[2], self._dtype, rows.total // self._dtype.itemsize
        )
        return values.reshape(-1, *self._tail)

    def _inlined(self, rows: _Rows) -> np.ndarray:
        """The views, those of short rows with the rows themselves."""
        views = rows.views.copy()
        held = views.view(np.uint8).reshape(-1, VIEW.itemsize)[:, -INLINE:]
        for part in np.unique(rows.part[rows.short]):
            mine, flat = rows.short[rows.part[rows.short] == part], self._flat[part]
            held[mine] = flat[np.minimum(rows.start[mine, None] + np.arange(INLINE), len(flat) - 1)]
        return views


class _Rows:
    """Which bytes to copy: `size` [m] from `start` [m] of a part each [m]."""

    def __init__(self, part: np.ndarray, start: np.ndarray, size: np.ndarray, first_buffer: np.ndarray) -> None:
        self.part, self.start, self.total = part, start, int(size.sum())
        self.views = np.zeros(len(start), VIEW)
        self.views["size"], self.views["offset"] = size, start & ((1 << REACH) - 1)
        self.views["buffer"] = (start >> REACH) + first_buffer[part]
        self.short = np.flatnonzero((size <= INLINE) & (size > 0))


@dataclass(frozen=True)
class _Column:
    """A column of lists or vectors. `spans` [n + 1]: where each request's values begin, as if the units were joined.

    `jagged` for a list per request; `lengths` of a list per candidate.
    """

    values: _Values
    spans: np.ndarray
    jagged: bool = False
    lengths: _Values | None = None


class Window:
    """The decoded units of one window. Safe to use from several threads."""

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
        rows = np.arange(int(self.base[-1]) + 1)
        self._request: dict[str, _Column | np.ndarray] = {}
        for name, first in units[0].request.items():
            columns = [u.request[name] for u in units]
            if isinstance(first, Jagged):
                values = _Values([c.values for c in columns])
                self._request[name] = _Column(values, joined([c.offsets for c in columns]), jagged=True)
            elif first.ndim == 1:
                self._request[name] = concat(columns)
            else:
                self._request[name] = _Column(_Values(columns), rows)
        self._candidates: dict[str, _Column] = {}
        for name, first in units[0].candidates.items():
            columns = [u.candidates[name] for u in units]
            if isinstance(first, Jagged):
                inner = joined([c.offsets for c in columns])
                values, lengths = _Values([c.values for c in columns]), _Values([np.diff(inner)])
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
        self._offsets: dict[int, np.ndarray] = {}
        self._rows: dict[tuple[int, int, bool], _Rows] = {}

    def column(self, column: _Column | np.ndarray) -> Array | Jagged:
        if isinstance(column, np.ndarray):
            return column[self._pooled]
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
        key = (id(spans), values.width, values.joined)
        if key not in self._rows:
            starts, stops = spans[self._pooled], spans[self._pooled + 1]
            part = np.zeros(len(starts), np.int64) if values.joined else self._slot
            before = 0 if values.joined else spans[self._base[part]]
            starts, sizes = (starts - before) * values.width, (stops - starts) * values.width
            self._rows[key] = _Rows(part, starts, sizes, values.first_buffer)
        return values.copied(self._rows[key])
