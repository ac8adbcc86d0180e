"""How a reader's memory bound is divided, and the least that works."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from feature_reader.errors import MemoryBoundError
from feature_reader.plan import ReadUnit

DECODING = 2.5
"""Times its decoded bytes that a unit takes while Parquet decodes it, for pages and doubling buffers (2.4 measured)."""
DEFAULT_WINDOW = 8
CHUNK_BYTES = 4 << 20
"""Batches gathered ahead of the consumer, half of it at once: above some 2 MB fresh pages halve the copying speed."""


def while_decoding(decoded_bytes: int) -> int:
    """Bytes that a unit takes while it is being decoded."""
    return int(DECODING * decoded_bytes)


def widest_window(units: Sequence[ReadUnit], memory_bytes: int) -> int:
    """The most units, up to the default, of which the largest take half of the memory bound while they are decoded."""
    largest = max((u.decoded_bytes for u in units), default=1)
    return max(1, min(DEFAULT_WINDOW, (memory_bytes // 2 - while_decoding(largest)) // max(1, largest) + 1))


def batch_bytes(units: Sequence[ReadUnit], batch_size: int, *, sized: bool) -> int:
    """Bytes of a batch: of `batch_size` requests of the widest unit or, `sized`, of as many candidates or tokens."""
    if sized:
        total = sum(int(u.sizes.sum()) for u in units if u.sizes is not None)
        return math.ceil(sum(u.decoded_bytes for u in units) / max(1, total) * batch_size)
    return math.ceil(max((u.decoded_bytes / max(1, u.rows) for u in units), default=0) * batch_size)


def divide(units: Sequence[ReadUnit], window: int, batch: int, memory_bytes: int) -> tuple[int, int]:
    """Bytes for units, and for batches ahead (of `batch` bytes each). Raises MemoryBoundError that names the least."""
    sizes = np.sort(np.array([u.decoded_bytes for u in units], dtype=np.int64))[::-1]
    held = int(sizes[:window].sum() - sizes[:1].sum()) + while_decoding(int(sizes[:1].sum()))
    least = held + 2 * batch
    if least > memory_bytes:
        raise MemoryBoundError(
            f"memory_bytes={memory_bytes} cannot hold a shuffle window of {window} units and two batches of "
            f"{batch} bytes: give at least memory_bytes={least}, or a smaller window or batch"
        )
    ahead = min(max(2 * batch, min(memory_bytes // 8, CHUNK_BYTES)), memory_bytes - held)
    return memory_bytes - ahead, ahead
