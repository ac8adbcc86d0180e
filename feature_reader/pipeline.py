"""Threads that decode units and gather batches ahead of the consumer, bounded in decoded bytes.

Work is admitted in the order's own sequence: a unit when the units in memory leave room for it, a chunk (the batches
of some consecutive steps, gathered at once) when the chunks not yet consumed do. Each of the two bounds holds at least
what one window, or one chunk, needs, so the head of the line can always go on. There is no scheduling thread: whoever
finishes something admits what comes next.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np

from feature_reader.arrays import copied
from feature_reader.batch import RequestBatch
from feature_reader.collate import Window
from feature_reader.memory import while_decoding
from feature_reader.origins import origin_of
from feature_reader.plan import Plan
from feature_reader.schedule import Piece, Slice, WindowShare
from feature_reader.stats import ReaderStats


@dataclass
class _Chunk:
    """Consecutive pieces of one window; gathered, one batch a piece."""

    pieces: tuple[Piece, ...]
    cost: int
    unit_cost: int = 0
    """Bytes of units that its batches are views of: free when it is consumed."""
    batches: list[RequestBatch] | None = None


@dataclass
class _Active:
    """A window between the admission of its first unit and the gathering of its last chunk."""

    share: WindowShare
    chunks: deque[_Chunk]
    decoded: list[RequestBatch | None]
    left: int
    cost: int = 0
    window: Window | None = None
    admitted: int = field(default=0)


class Pipeline:
    """Yields (step, batch) in order; at most `threads` pieces of work at a time."""

    def __init__(
        self,
        plan: Plan,
        windows: Iterator[WindowShare],
        decode: Callable[[int, Slice | None], RequestBatch],
        *,
        threads: int,
        unit_bytes: int,
        chunk_bytes: int,
        stats: ReaderStats,
        lost: Callable[[str, int], np.ndarray | None],
        stand_in: Callable[[], RequestBatch],
    ) -> None:
        self._lost, self._stand_in = lost, stand_in
        self._plan, self._windows, self._decode, self._stats = plan, windows, decode, stats
        self._threads, self._unit_bytes, self._chunk_bytes = threads, unit_bytes, chunk_bytes
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="reqlake-reader")
        self._changed = threading.Condition()
        self._active: deque[_Active] = deque()
        self._ready: deque[_Chunk] = deque()
        """Admitted chunks in order, gathered or not."""
        self._exhausted = self._closed = self._gathering = False
        self._failure: BaseException | None = None
        self._running = self._held_units = self._held_chunks = 0
        self._slicing = False

    def __iter__(self) -> Iterator[tuple[int, RequestBatch]]:
        carried: list[RequestBatch] = []
        try:
            with self._changed:
                self._admit()
            while (chunk := self._next_chunk()) is not None:
                batches = deque(chunk.batches or ())
                chunk.batches = None  # each batch is the consumer's alone once it is given
                for piece in chunk.pieces:
                    self._stats.add(queue_batches=-1)
                    batch = batches.popleft()
                    if batch.R:
                        carried.append(batch)
                    del batch
                    if piece.last:
                        whole, carried = RequestBatch.concat(carried) if carried else self._stand_in(), []
                        self._stats.add(few_users=piece.few_users)
                        yield piece.step, whole
                        del whole
                carried = [part.map(copied) for part in carried]  # or a view would keep its whole unit alive
                with self._changed:
                    self._held_chunks -= chunk.cost
                    self._held_units -= chunk.unit_cost
                    self._admit()
        finally:
            self.close()

    def close(self) -> None:
        """Stop; returns when no thread is left."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._stats.put(queue_batches=0)

    def _next_chunk(self) -> _Chunk | None:
        start = perf_counter()
        with self._changed:
            while not (self._failure or (self._ready and self._ready[0].batches is not None) or self._done()):
                self._changed.wait()
            self._stats.add(wait_s=perf_counter() - start)
            if self._failure is not None:
                raise self._failure
            return self._ready.popleft() if self._ready else None

    def _done(self) -> bool:
        return self._exhausted and not self._ready and not self._active

    # ---- admission: always under the lock ------------------------------------------------------------------------

    def _admit(self) -> None:
        """Start whatever fits: a gather before a decode, both in order."""
        while not (self._closed or self._failure) and self._running < self._threads:
            if not (self._admit_chunk() or self._admit_unit()):
                break
        self._stats.top(peak_held_bytes=self._held_units + self._held_chunks)
        self._changed.notify_all()

    def _admit_chunk(self) -> bool:
        if self._gathering or not self._active or self._active[0].left:
            return False
        active = self._active[0]
        chunk = active.chunks[0]
        if self._held_chunks and self._held_chunks + chunk.cost > self._chunk_bytes:
            return False
        active.chunks.popleft()
        self._held_chunks += chunk.cost
        self._ready.append(chunk)
        self._gathering = True
        self._start(self._gather, active, chunk)
        return True

    def _admit_unit(self) -> bool:
        if not self._active or self._active[-1].admitted == len(self._active[-1].share.units):
            share = next(self._windows, None)
            if share is None:
                self._exhausted = True
                return False
            units = len(share.units)
            self._active.append(_Active(share, self._chunks(share), [None] * units, units))
            if units == 0:  # nothing to decode: only the completion of a step that began earlier
                return True
        active = self._active[-1]
        unit = int(active.share.units[active.admitted])
        cost, peak = self._cost(active.share, unit)
        if self._held_units and self._held_units + peak > self._unit_bytes:
            return False
        if active.share.part is not None and active.share.part.follows:
            if self._slicing:
                return False
            self._slicing = True
        self._held_units += peak
        active.cost += cost
        slot = active.admitted
        active.admitted += 1
        self._start(self._read, active, slot, unit)
        return True

    def _cost(self, share: WindowShare, unit: int) -> tuple[int, int]:
        """Bytes of a unit, or of its slice, and as many while it is decoded."""
        whole = self._plan.units[unit]
        if share.part is None:
            return whole.decoded_bytes, while_decoding(whole.decoded_bytes)
        cost = int(whole.decoded_bytes * len(share.part.rows) / whole.rows)
        return cost, while_decoding(cost) + share.part.pass_bytes

    def _start(self, work: Callable[..., None], *args: object) -> None:
        self._running += 1
        self._pool.submit(self._run, work, *args)

    def _chunks(self, share: WindowShare) -> deque[_Chunk]:
        """The share's pieces in runs of about half the chunk bound."""
        units = self._plan.units
        row_bytes = np.array([units[u].decoded_bytes / max(1, units[u].rows) for u in share.units])
        edges = np.concatenate([np.zeros(1), np.cumsum(row_bytes[share.slot])])
        chunks: deque[_Chunk] = deque()
        run: list[Piece] = []
        for piece in share.pieces:
            if run and edges[piece.stop] - edges[run[0].start] > self._chunk_bytes / 2:
                chunks.append(_Chunk(tuple(run), int(edges[run[-1].stop] - edges[run[0].start])))
                run = []
            run.append(piece)
        chunks.append(_Chunk(tuple(run), int(edges[run[-1].stop] - edges[run[0].start])))
        return chunks

    # ---- work: outside the lock ----------------------------------------------------------------------------------

    def _run(self, work: Callable[..., None], *args: object) -> None:
        try:
            work(*args)
        except BaseException as error:  # noqa: BLE001 - carried to the consumer, who raises it
            with self._changed:
                self._failure = self._failure or error
        with self._changed:
            self._running -= 1
            try:
                self._admit()
            except BaseException as error:  # noqa: BLE001 - as above
                self._failure = self._failure or error
                self._changed.notify_all()

    def _read(self, active: _Active, slot: int, unit: int) -> None:
        batch = self._decode(unit, active.share.part)
        with self._changed:
            active.decoded[slot] = batch
            active.left -= 1
            cost, peak = self._cost(active.share, unit)
            self._held_units -= peak - cost
            if active.share.part is not None and active.share.part.follows:
                self._slicing = False

    def _gather(self, active: _Active, chunk: _Chunk) -> None:
        with self._stats.timed("collate_s"):
            batches = self._batches(active, chunk.pieces)
        with self._changed:
            chunk.batches = batches
            self._gathering = False
            self._stats.add(queue_batches=len(batches))
            if not active.chunks:
                self._active.popleft()
                if active.window is not None and active.window.gives_views:
                    chunk.unit_cost = active.cost
                else:
                    self._held_units -= active.cost

    def _batches(self, active: _Active, pieces: tuple[Piece, ...]) -> list[RequestBatch]:
        start, stop = pieces[0].start, pieces[-1].stop
        if start == stop:
            return [LOST] * len(pieces)
        if active.window is None:
            units = [batch for batch in active.decoded if batch is not None]
            good = next((unit for unit in units if unit is not LOST), None)
            if good is None:
                self._stats.add(bad_requests=stop - start)
                return [LOST] * len(pieces)
            active.window = Window([good.slice(0, 0) if unit is LOST else unit for unit in units])
            active.decoded = []
        origin, slot = origin_of(self._plan, active.share, start, stop), active.share.slot[start:stop]
        edges = np.arange(stop - start + 1)
        good_rows = self._good(active.share, slot, origin.row)
        if not good_rows.all():
            self._stats.add(bad_requests=int((~good_rows).sum()))
            origin, slot = origin.take(np.flatnonzero(good_rows)), slot[good_rows]
            edges = np.concatenate([[0], np.cumsum(good_rows)])
        part = active.share.part
        row = origin.row if part is None else np.searchsorted(part.rows, origin.row)
        taken = active.window.take(slot, row, origin)
        batches = []
        for piece in pieces:
            cut = taken.slice(int(edges[piece.start - start]), int(edges[piece.stop - start]))
            batches.append(RequestBatch(cut.request, cut.candidates, cut.candidate_offsets, piece.padding, cut.origin))
        return batches

    def _good(self, share: WindowShare, slot: np.ndarray, row: np.ndarray) -> np.ndarray:
        """Which of a share's requests could be read, bool [m]."""
        good = np.ones(len(slot), bool)
        for i, number in enumerate(share.units):
            unit = self._plan.units[number]
            lost = self._lost(self._plan.files[unit.file], unit.row_group)
            if lost is not None:
                good[(slot == i) & np.isin(row, lost)] = False
        return good


LOST = RequestBatch({}, {}, np.zeros(1, np.int64))
"""What stands for a unit of which nothing could be read, and for a batch without any of this rank's requests."""
