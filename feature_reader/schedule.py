"""Who reads what, and in which step: a rank's share of each global batch, window by window.

A global batch is a run of positions in the epoch's order, cut before ranks are known. Its requests are dealt to the
ranks sorted by unit, so a rank decodes about 1 / world_size of a window's units and not all of them; with one rank the
order inside a batch is the epoch's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from feature_reader.order import Order


@dataclass(frozen=True)
class Piece:
    """Rows `start:stop` of a window's share, which belong to one step; `last` where they complete it."""

    step: int
    start: int
    stop: int
    padding: int
    last: bool


@dataclass(frozen=True)
class WindowShare:
    """What one rank takes of one window: `slot` [m] and `number` [m] of its requests, in the order of its steps."""

    units: np.ndarray
    """The units that the rank has to decode, int64."""
    slot: np.ndarray
    """Index into `units` of each request."""
    number: np.ndarray
    """Number of each request within its unit's kept requests."""
    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class Share:
    """One rank of several, and within it every `workers`-th step from `worker` on."""

    rank: int
    world_size: int
    worker: int = 0
    workers: int = 1


def shares(order: Order, bounds: np.ndarray, share: Share) -> Iterator[WindowShare]:
    """The rank's windows, for the steps between `bounds` (positions, int64 [steps + 1], ascending).

    Bounds beyond the epoch's requests wrap around to its start. Windows without anything for this rank are left out.
    """
    if len(bounds) < 2 or bounds[-1] == bounds[0]:
        return
    total, at, stop = order.requests, int(bounds[0]), int(bounds[-1])
    while at < stop:
        lap, inside = divmod(at, total)
        k = order.window_at(inside)
        end = min(int(order.starts[k + 1]) + lap * total, stop)
        first = int(order.starts[k]) + lap * total
        slot, number = order.requests_of(k)
        piece = _share_of(slot[at - first : end - first], number[at - first : end - first], at, bounds, share)
        if piece is not None:
            slots, slot = np.unique(piece.slot, return_inverse=True)
            yield WindowShare(order.units_of(k)[slots], slot, piece.number, piece.pieces)
        at = end


def _share_of(slot: np.ndarray, number: np.ndarray, at: int, bounds: np.ndarray, share: Share) -> WindowShare | None:
    """The rank's share of positions `at … at + len(slot) - 1`, which lie in one window."""
    end = at + len(slot)
    first, last = (int(np.searchsorted(bounds, p, side="right")) - 1 for p in (at, end - 1))
    pieces, chosen, start = [], [], 0
    for step in range(first + (share.worker - first) % share.workers, last + 1, share.workers):
        low, high = int(bounds[step]), int(bounds[step + 1])
        begin, finish = max(low, at), min(high, end)
        here = np.arange(begin - at, finish - at)
        padding = 0
        if share.world_size > 1:
            here = here[np.argsort(slot[here], kind="stable")]
            mine_low, mine_high = _part(high - low, share)
            mine = here[max(0, mine_low - (begin - low)) : max(0, mine_high - (begin - low))]
            if mine_high == mine_low and finish == high:
                mine, padding = here[:1], 1
            here = mine
        complete = finish == high
        if len(here) or complete:
            pieces.append(Piece(step, start, start + len(here), padding, complete))
            chosen.append(here)
            start += len(here)
    if not pieces:
        return None
    index = np.concatenate(chosen)
    return WindowShare(np.zeros(0, np.int64), slot[index], number[index], tuple(pieces))


def _part(size: int, share: Share) -> tuple[int, int]:
    """The rank's part of a step of `size` requests: as even as can be, the first ranks one more."""
    base, extra = divmod(size, share.world_size)
    low = share.rank * base + min(share.rank, extra)
    return low, low + base + (share.rank < extra)


def step_bounds(order: Order, consumed: int, global_batch: int, tail: str) -> np.ndarray:
    """Positions at which the steps begin and end, from `consumed` on: int64 [steps + 1].

    `tail` says what becomes of the requests that do not fill the last global batch: `pad` makes a short step of them,
    `drop` leaves them out, `wrap` fills it from the epoch's start.
    """
    left = order.requests - consumed
    full, rest = divmod(left, global_batch)
    bounds = consumed + global_batch * np.arange(full + 1, dtype=np.int64)
    if rest == 0 or tail == "drop":
        return bounds
    end = order.requests if tail == "pad" else int(bounds[-1]) + global_batch
    return np.append(bounds, end)
