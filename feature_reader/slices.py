"""A row group too large for the memory bound, read in slices of its requests.

The order is that of any larger bound; what a small one costs is time. In file order the slices follow one another in
one pass over the group. A shuffled group is gone through once for each slice, which keeps the slice's requests and
drops the others as they come.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from feature_reader.cache import KeptEntries
from feature_reader.files import DataFiles
from feature_reader.memory import Budget
from feature_reader.plan import Plan, ReadUnit
from feature_reader.schedule import Piece, Slice, WindowShare
from feature_reader.storage import file_errors


def sliced(windows: Iterator[WindowShare], plan: Plan, budget: Budget, *, in_order: bool) -> Iterator[WindowShare]:
    """The windows, those of one unit beyond the budget cut into slices that fit."""
    for share in windows:
        if len(share.units) != 1 or not budget.is_large(plan.units[share.units[0]]):
            yield share
        else:
            yield from _cut(share, plan.units[share.units[0]], budget, in_order=in_order)


def _cut(share: WindowShare, unit: ReadUnit, budget: Budget, *, in_order: bool) -> Iterator[WindowShare]:
    total, width = len(share.number), unit.decoded_bytes / max(1, unit.rows)
    length = max(1, int(budget.slice_bytes / width))
    batch_rows = max(1, int(budget.stream_bytes / width))
    for start in range(0, total, length):
        stop = min(start + length, total)
        number = share.number[start:stop]
        rows = np.sort(number if unit.keep is None else unit.keep[number])
        yield replace(
            share,
            slot=share.slot[start:stop],
            number=number,
            pieces=tuple(_within(share.pieces, start, stop, total)),
            part=Slice(rows, budget.pass_bytes, batch_rows, follows=in_order),
        )


def _within(pieces: tuple[Piece, ...], start: int, stop: int, total: int) -> Iterator[Piece]:
    """What of the pieces lies in rows `start:stop`; an empty piece lies before the row that it stands at."""
    for piece in pieces:
        low, high = max(piece.start, start), min(piece.stop, stop)
        empty = piece.start == piece.stop and start <= piece.start and (piece.start < stop or stop == total)
        if low < high or empty:
            whole = high == piece.stop
            yield replace(
                piece,
                start=low - start,
                stop=high - start,
                padding=piece.padding if whole else 0,
                last=piece.last and whole,
            )


@dataclass(frozen=True)
class Group:
    """A row group, and which of its columns are wanted."""

    files: DataFiles
    path: str
    row_group: int
    columns: list[str]
    kept: KeptEntries | None = None


class SliceReader:
    """Reads slices. One pass stays open between slices that follow one another; `close` ends it.

    Slices that follow one another are read one at a time, others from any thread.
    """

    def __init__(self) -> None:
        self._open: _Pass | None = None
        self._lock = threading.Lock()

    def read(self, group: Group, part: Slice) -> pa.Table:
        """The slice's rows in ascending order. Raises DataFileError."""

        def once() -> pa.Table:
            if not part.follows:
                with _Pass(group, part.batch_rows) as alone:
                    return alone.take(part.rows)
            with self._lock:
                held, self._open = self._open, None
            if held is None or not held.can_reach(group, int(part.rows[0])):
                if held is not None:
                    held.close()
                held = _Pass(group, part.batch_rows)
            try:
                table = held.take(part.rows)
            except BaseException:
                held.close()
                raise
            with self._lock:
                self._open = held
            return table

        with file_errors(group.path):
            return group.files.storage.retried(once)

    def close(self) -> None:
        """Close the file that is open, if any."""
        with self._lock:
            held, self._open = self._open, None
        if held is not None:
            held.close()


class _Pass:
    """One way through a row group, some rows at a time."""

    def __init__(self, group: Group, batch_rows: int) -> None:
        self._where = (group.path, group.row_group)
        self._stack = ExitStack()
        file: pq.ParquetFile = self._stack.enter_context(
            group.files.opened(group.path, group.row_group, group.columns, group.kept, streaming=True)
        )
        self._batches = file.iter_batches(
            batch_rows, row_groups=[group.row_group], columns=group.columns, use_threads=False
        )
        self._first = 0
        """Row number of the batch at hand; the next row to come where none is."""
        self._batch: pa.RecordBatch | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._batch = self._batches = None
        self._stack.close()

    def can_reach(self, group: Group, row: int) -> bool:
        return self._where == (group.path, group.row_group) and row >= self._first

    def take(self, rows: np.ndarray) -> pa.Table:
        """These rows, ascending and not before the ones taken last."""
        kept: list[pa.RecordBatch] = []
        while True:
            if self._batch is None:
                self._batch = next(self._batches)
            end = self._first + self._batch.num_rows
            here = rows[np.searchsorted(rows, self._first) : np.searchsorted(rows, end)] - self._first
            if len(here) == self._batch.num_rows:
                kept.append(self._batch)
            elif len(here):
                kept.append(self._batch.take(pa.array(here)))
            if rows[-1] < end - 1:
                break
            self._first, self._batch = end, None
            if rows[-1] == end - 1:
                break
        return pa.Table.from_batches(kept)
