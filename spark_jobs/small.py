"""Frames of a small batch, cut off from the plans that made them.

Each action plans anew all that its frame was made of, and runs again what nobody kept; of a merge of a hundred rows
that was most of the time. A small frame is therefore kept by the first action that needs it, and from then on its plan
is a scan of what is kept. The frame of a large batch keeps its plan: nothing is held for it, and a lost executor's part
can be made again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

SMALL_ROWS = 50_000


def is_small(rows: int) -> bool:
    """Whether frames of a batch of so many rows are cut off."""
    return rows <= SMALL_ROWS


def cut_off(frame: DataFrame, rows: int) -> DataFrame:
    """The frame without its plan, kept when it is first computed, where the batch has few `rows`; else as it is."""
    return frame.localCheckpoint(eager=False) if is_small(rows) else frame


def kept(frame: DataFrame, rows: int) -> DataFrame:
    """A frame that is computed once: cut off where the batch has few `rows`, else cached (`unpersist` drops it)."""
    return frame.localCheckpoint(eager=False) if is_small(rows) else frame.persist()
