"""Where a reader's time and bytes go."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from time import perf_counter
from typing import Any


@dataclass
class ReaderStats:
    """Counts since the reader was opened. Seconds of read, decode and collate add up over threads."""

    plan_s: float = 0.0
    """Seconds to plan: manifests, footers, deletes, filter."""
    wait_s: float = 0.0
    """Seconds that the consumer waited for a batch."""
    first_batch_s: float = 0.0
    """Seconds from the start of the latest iteration to its first batch."""
    read_s: float = 0.0
    """Seconds to read row groups into Arrow memory: bytes, decompression, decoding."""
    decode_s: float = 0.0
    """Seconds from Arrow to the batch's arrays: nulls, strings, offsets."""
    collate_s: float = 0.0
    """Seconds to gather requests in the epoch's order."""
    copy_s: float = 0.0
    """Seconds that a loader took to copy batches to its device; of a copy that does not block, to start it."""
    units: int = 0
    """Row groups read whole."""
    slices: int = 0
    """Parts of row groups that the memory bound cannot hold; each goes through its group once if that is shuffled."""
    read_bytes: int = 0
    """Bytes of the row groups read, as they lie in their files."""
    decoded_bytes: int = 0
    """Bytes of the arrays that were decoded."""
    copied_bytes: int = 0
    """Bytes of the batches that a loader copied to its device."""
    queue_batches: int = 0
    """Batches that are gathered and wait for the consumer, now."""
    cache_hits: int = 0
    """Reads of a unit that the disk cache had, of those that it keeps."""
    cache_misses: int = 0
    """Reads of a unit that the disk cache keeps and did not have yet."""
    cache_damaged: int = 0
    """Entries of the disk cache that were not what had been written, and were read again."""
    cache_written_bytes: int = 0
    peak_held_bytes: int = 0
    """Most bytes that units and batches in flight have held, by the plan's estimate."""
    steps: int = 0
    requests: int = 0
    candidates: int = 0
    padding: int = 0
    """Zero-weight requests that evened out the ranks' last step."""
    dropped: int = 0
    """Requests (over all ranks) that `tail="drop"` left out."""
    wrapped: int = 0
    """Requests (over all ranks) that `tail="wrap"` gave twice."""
    few_users: int = 0
    """Batches with fewer distinct users than `min_users_per_batch`, since their windows have no more."""
    bad_requests: int = 0
    """Requests that batches lack because they cannot be read (`skip_bad_requests`)."""
    _lock: Any = field(default_factory=threading.Lock, repr=False, compare=False)

    def add(self, **amounts: float) -> None:
        """Add to counters, safely from any thread."""
        with self._lock:
            for name, amount in amounts.items():
                setattr(self, name, getattr(self, name) + amount)

    def top(self, **values: int) -> None:
        """Raise counters to at least these values."""
        with self._lock:
            for name, value in values.items():
                setattr(self, name, max(getattr(self, name), value))

    def put(self, **values: int) -> None:
        """Set what is no counter."""
        with self._lock:
            for name, value in values.items():
                setattr(self, name, value)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the seconds that the block takes."""
        start = perf_counter()
        try:
            yield
        finally:
            self.add(**{name: perf_counter() - start})

    def __reduce__(self) -> tuple[Any, ...]:
        return ReaderStats, tuple(self.as_dict().values())

    def as_dict(self) -> dict[str, float]:
        """The counters by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if not f.name.startswith("_")}
