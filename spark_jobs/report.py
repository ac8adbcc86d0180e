"""What one ingest did."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

Progress = Callable[[str], None]


@dataclass(frozen=True)
class IngestReport:
    """The books of one batch: `raw_rows = accepted_rows + duplicate_rows + sum(quarantined.values())`.

    `requests` are new rows of the table, `merged_requests` rows written anew because late impressions came. A late row
    that takes a stored one's place sends that one to quarantine, so the sum holds over batches as it does in one.
    `replaced_requests` are rows that a changed source took out; `requests` are then those in their place.

    `conflict_rows` are accepted rows whose request features differ from the row that ranks first in their request,
    `conflicts_by_column` on which features. `seconds` by step. `skipped`: the batch was in the table already.
    `known_files` were passed over, `waiting_files` are not whole yet. `warnings`: how it is unlike the last batches.
    """

    batch_id: str
    raw_rows: int = 0
    accepted_rows: int = 0
    duplicate_rows: int = 0
    conflict_rows: int = 0
    requests: int = 0
    merged_requests: int = 0
    replaced_requests: int = 0
    quarantined: dict[str, int] = field(default_factory=dict)
    conflicts_by_column: dict[str, int] = field(default_factory=dict)
    snapshot_id: int | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    skipped: bool = False
    known_files: tuple[str, ...] = ()
    waiting_files: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class Steps:
    """Names each step to `progress` and times it."""

    def __init__(self, progress: Progress | None = None) -> None:
        self.progress = progress
        self.seconds: dict[str, float] = {}

    def say(self, what: str) -> None:
        """Tell `progress`."""
        if self.progress is not None:
            self.progress(what)

    @contextmanager
    def step(self, name: str, says: str) -> Iterator[None]:
        """One step; its seconds are kept under `name`, added up where it runs twice."""
        self.say(says)
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started
