"""Which files, row groups and rows a step reads: from the plan and the order alone, without reading data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from feature_reader.batch import Origin
from feature_reader.errors import ReaderError
from feature_reader.plan import Plan
from feature_reader.schedule import WindowShare, shares

if TYPE_CHECKING:
    from feature_reader.reader import Reader


def origin_of(plan: Plan, share: WindowShare, start: int, stop: int) -> Origin:
    """Where rows `start:stop` of a window's share lie."""
    units = [plan.units[u] for u in share.units]
    slot, number = share.slot[start:stop], share.number[start:stop]
    row = number
    if any(unit.keep is not None for unit in units):
        row = number.copy()
        for i, unit in enumerate(units):
            if unit.keep is not None:
                mine = slot == i
                row[mine] = unit.keep[number[mine]]
    file = np.array([u.file for u in units], dtype=np.int32)
    group = np.array([u.row_group for u in units], dtype=np.int32)
    return Origin(plan.files, file[slot], group[slot], row)


def trace(reader: Reader, step: int, epoch: int | None = None) -> Origin:
    """Where the requests of one step of an epoch lie (the reader's own epoch by default), for the reader's rank.

    Raises ReaderError for a step that the epoch does not have.
    """
    epoch = reader.epoch if epoch is None else epoch
    steps = reader.steps(epoch, 0)
    if not 0 <= step < len(steps):
        raise ReaderError(f"step {step}: epoch {epoch} of this reader has {len(steps)} steps, counted from 0")
    parts = [
        origin_of(reader.plan, window, piece.start, piece.stop)
        for window in shares(reader.order(epoch), steps.from_step(step, step + 1), reader.share)
        for piece in window.pieces
    ]
    return Origin.concat(parts)
