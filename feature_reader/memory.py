"""How a reader's memory bound is divided, and the least that works."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from feature_reader.errors import MemoryBoundError
from feature_reader.plan import ReadUnit

DECODING = 2.5
"""Times its decoded bytes that a unit takes while Parquet decodes it, for pages and doubling buffers (2.4 measured)."""
IN_HAND = 3
"""Batches besides those that wait: the loop's own, and one that lies across windows, in parts and joined."""
DEFAULT_WINDOW = 8
STREAM_BYTES = 1 << 20
"""Decoded bytes of a large row group at a time: less is no smaller, since a page is decompressed whole."""
CHUNK_BYTES = 4 << 20
"""Batches gathered ahead of the consumer, half of it at once: above some 2 MB fresh pages halve the copying speed."""


def while_decoding(decoded_bytes: int) -> int:
    """Bytes that a unit takes while it is being decoded."""
    return int(DECODING * decoded_bytes)


def widest_window(units: Sequence[ReadUnit], batch: int, memory_bytes: int) -> int:
    """The most units, up to the default, of which the largest take half of the memory bound while they are decoded.

    Fewer where batches (of `batch` bytes each) leave less than that half.
    """
    largest = max((u.decoded_bytes for u in units), default=1)
    room = min(memory_bytes // 2, memory_bytes - (2 + IN_HAND) * batch)
    return max(1, min(DEFAULT_WINDOW, (room - while_decoding(largest)) // max(1, largest) + 1))


def batch_bytes(units: Sequence[ReadUnit], batch_size: int, *, sized: bool) -> int:
    """Bytes of a batch: of `batch_size` requests of the widest unit or, `sized`, of as many candidates or tokens."""
    if sized:
        total = sum(int(u.sizes.sum()) for u in units if u.sizes is not None)
        return math.ceil(sum(u.decoded_bytes for u in units) / max(1, total) * batch_size)
    return math.ceil(max((u.decoded_bytes / max(1, u.rows) for u in units), default=0) * batch_size)


@dataclass(frozen=True)
class Budget:
    """A memory bound, divided."""

    unit_bytes: int
    """For units, while they are decoded and until they are gathered."""
    ahead_bytes: int
    """For batches that wait."""
    slice_bytes: int = 0
    """Decoded bytes of a slice of a unit that `unit_bytes` cannot hold; 0 where there is none."""
    pass_bytes: int = 0
    """Bytes that going through such a unit takes besides the slice."""
    stream_bytes: int = 0
    """Decoded bytes to go through at a time."""

    def is_large(self, unit: ReadUnit) -> bool:
        """Whether a unit is read in slices."""
        return self.slice_bytes > 0 and while_decoding(unit.decoded_bytes) > self.unit_bytes


def divide(
    units: Sequence[ReadUnit], window: int, batch: int, memory_bytes: int, streaming: Callable[[ReadUnit], int]
) -> Budget:
    """Divide a bound between units and batches (of `batch` bytes each).

    Units that it cannot hold whole are sliced where they are shuffled alone (window 1); `streaming` is what going
    through a unit takes. Raises MemoryBoundError that names the least that works.
    """
    sizes = np.sort(np.array([u.decoded_bytes for u in units], dtype=np.int64))[::-1]
    held = int(sizes[:window].sum() - sizes[:1].sum()) + while_decoding(int(sizes[:1].sum()))
    room, ahead = memory_bytes - IN_HAND * batch, max(2 * batch, min(memory_bytes // 8, CHUNK_BYTES))
    if held + 2 * batch <= room:
        ahead = min(ahead, room - held)
        return Budget(room - ahead, ahead)
    least = held + (2 + IN_HAND) * batch
    if window == 1:
        passing = streaming(max(units, key=lambda u: u.decoded_bytes)) + while_decoding(STREAM_BYTES)
        smallest = passing + while_decoding(batch)
        if smallest + 2 * batch <= room:
            ahead = min(ahead, room - smallest)
            slice_bytes = max(batch, int((room - ahead - passing) / (1 + DECODING)))
            return Budget(room - ahead, ahead, slice_bytes, passing, STREAM_BYTES)
        least = min(least, smallest + (2 + IN_HAND) * batch)
    raise MemoryBoundError(
        f"memory_bytes={memory_bytes} cannot hold a shuffle window of {window} units and {2 + IN_HAND} batches of "
        f"{batch} bytes: give at least memory_bytes={least}, or a smaller window or batch"
    )
