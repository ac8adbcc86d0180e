"""Who reads what, and in which step: a rank's share of each global batch, window by window.

A global batch is a run of positions in the epoch's order, cut before ranks are known. Its requests are dealt to the
ranks sorted by unit, so a rank decodes about 1 / world_size of a window's units and not all of them; with one rank the
order inside a batch is the epoch's own. A step whose shares would then hold too few users is dealt in runs instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from feature_reader.crowds import Crowds
from feature_reader.order import Order


@dataclass(frozen=True)
class Piece:
    """Rows `start:stop` of a window's share, which belong to one step; `last` where they complete it."""

    step: int
    start: int
    stop: int
    padding: int
    last: bool
    few_users: bool = False
    """Whether the rank's batch of the step holds fewer users than were asked for."""


@dataclass(frozen=True)
class Slice:
    """The part of a large row group that is read at a time."""

    rows: np.ndarray
    """Row numbers within the group, ascending."""
    pass_bytes: int
    """Bytes that going through the group takes besides what is kept."""
    batch_rows: int
    """Rows to go through at a time."""
    follows: bool
    """Whether it goes on where the slice before it ended, so that the two are not read at the same time."""


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
    part: Slice | None = None
    """What of its only unit is read; None for all of all."""


@dataclass(frozen=True)
class Share:
    """One rank of several, and within it every `workers`-th step from `worker` on."""

    rank: int
    world_size: int
    worker: int = 0
    workers: int = 1


class Steps:
    """The steps of (the rest of) an epoch: step i takes positions `bounds[i]:bounds[i + 1]`, int64 [steps + 1].

    `sizes` [requests], in the epoch's order, is what the ranks' shares of a step are evened out by; None: requests.
    Bounds beyond the epoch's requests wrap around to its start.
    """

    def __init__(self, bounds: np.ndarray, sizes: np.ndarray | None = None) -> None:
        self.bounds = bounds
        self._edges = None if sizes is None else np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def at(self, position: int) -> int:
        """The step that takes a position."""
        return int(np.searchsorted(self.bounds, position, side="right")) - 1

    def from_step(self, step: int, stop: int) -> Steps:
        """Steps `step … stop - 1` alone."""
        cut = Steps(self.bounds[step : stop + 1])
        cut._edges = self._edges
        return cut

    def deal(self, step: int, positions: np.ndarray, before: int, world_size: int) -> np.ndarray:
        """The rank of each of a step's positions, taken in this order after those below `before`."""
        low, high = int(self.bounds[step]), int(self.bounds[step + 1])
        if self._edges is None:
            base, extra = divmod(high - low, world_size)
            cuts = np.arange(1, world_size) * base + np.minimum(np.arange(1, world_size), extra)
            return np.searchsorted(cuts, np.arange(before - low, before - low + len(positions)), side="right")
        sizes = self._edges[positions + 1] - self._edges[positions]
        middle = self._edges[before] - self._edges[low] + np.cumsum(sizes) - sizes / 2
        total = max(1, self._edges[high] - self._edges[low])
        return np.asarray(np.minimum((middle * world_size / total).astype(np.int64), world_size - 1))


def shares(order: Order, steps: Steps, share: Share) -> Iterator[WindowShare]:
    """The rank's windows for these steps. Windows without anything for this rank are left out."""
    if len(steps) < 1:
        return
    total, at, stop = order.requests, int(steps.bounds[0]), int(steps.bounds[-1])
    crowds = Crowds(order, steps, share.world_size) if order.least_users > 1 else None
    given = 0  # requests of the step under way that the rank got from earlier windows
    while at < stop:
        lap, inside = divmod(at, total)
        k = order.window_at(inside)
        first = int(order.starts[k]) + lap * total
        end = min(int(order.starts[k + 1]) + lap * total, stop)
        slot, number = (x[at - first : end - first] for x in order.requests_of(k))
        pieces, index, given = _pieces(slot, at, steps, share, given, crowds=crowds)
        if pieces:
            slots, mine = np.unique(slot[index], return_inverse=True)
            yield WindowShare(order.units_of(k)[slots], mine, number[index], tuple(pieces))
        at = end


def _pieces(
    slot: np.ndarray, at: int, steps: Steps, share: Share, given: int, *, crowds: Crowds | None
) -> tuple[list[Piece], np.ndarray, int]:
    """The rank's pieces of positions `at … at + len(slot) - 1` (one window), and which of them they are."""
    end = at + len(slot)
    first, last = steps.at(at), steps.at(end - 1)
    pieces: list[Piece] = []
    chosen = [np.zeros(0, np.int64)]
    start = 0
    for step in range(first + (share.worker - first) % share.workers, last + 1, share.workers):
        low, high = int(steps.bounds[step]), int(steps.bounds[step + 1])
        begin, finish = max(low, at), min(high, end)
        mine = np.arange(begin - at, finish - at)
        padding, earlier = 0, given if low < at else 0
        if share.world_size > 1:
            here = mine
            if crowds is None or crowds.by_unit(step):
                here = mine[np.argsort(slot[mine], kind="stable")]
            mine = here[steps.deal(step, here + at, begin, share.world_size) == share.rank]
            if finish == high and not len(mine) and not earlier:
                mine, padding = here[:1], 1
        given = earlier + len(mine)
        if len(mine) or finish == high:
            few = finish == high and crowds is not None and crowds.is_few(step, share.rank)
            pieces.append(Piece(step, start, start + len(mine), padding, finish == high, few))
            chosen.append(mine)
            start += len(mine)
    return pieces, np.concatenate(chosen), given


def step_bounds(requests: int, consumed: int, global_batch: int, tail: str) -> np.ndarray:
    """Bounds of steps of `global_batch` requests each, from `consumed` on.

    `tail` says what becomes of the requests that do not fill the last global batch: `pad` makes a short step of them,
    `drop` leaves them out, `wrap` fills it from the epoch's start.
    """
    full, rest = divmod(requests - consumed, global_batch)
    bounds = consumed + global_batch * np.arange(full + 1, dtype=np.int64)
    if rest == 0 or tail == "drop":
        return bounds
    end = requests if tail == "pad" else int(bounds[-1]) + global_batch
    return np.append(bounds, end)


def sized_bounds(sizes: np.ndarray, consumed: int, budget: int, tail: str) -> np.ndarray:
    """Bounds of steps of at most `budget` in size each, from `consumed` on; a larger request is a step by itself."""
    edges = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
    bounds, at = [consumed], consumed
    while at < len(sizes):
        following = int(np.searchsorted(edges, edges[at] + budget, side="right")) - 1
        at = max(at + 1, following)
        bounds.append(at)
    if tail == "drop" and len(bounds) > 1:
        bounds.pop()
    return np.array(bounds, dtype=np.int64)
