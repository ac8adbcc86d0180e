"""What an epoch is made of: the plan of the pinned tables, and each epoch's order and steps over it.

All of it follows from what a reader was opened with; where the reader stands in it is `Reader`'s alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from feature_reader.cache import DiskCache, KeptEntries
from feature_reader.memory import Budget, batch_bytes, divide, widest_window
from feature_reader.order import Order
from feature_reader.plan import Plan, ReadUnit
from feature_reader.schedule import Share, Steps, sized_bounds, step_bounds
from feature_reader.sources import PinnedSource, plan_sources
from feature_reader.stats import ReaderStats
from feature_reader.units import source_of

Tail = Literal["pad", "drop", "wrap"]


class Course:
    """The epochs of a reader. Planned on first need; the options are Reader's."""

    def __init__(
        self,
        sources: Sequence[PinnedSource],
        *,
        batch_by: str,
        batch_size: int,
        share: Share,
        tail: Tail,
        seed: int,
        shuffle: bool,
        window: int | None,
        min_users_per_batch: int,
        memory_bytes: int,
        cache: DiskCache | None,
    ) -> None:
        self.sources = tuple(sources)
        first = self.sources[0]
        self.table, self.spec, self.layout = first.table, first.spec, first.layout
        self.batch_by, self.batch_size = batch_by, batch_size
        self.share = share
        self.tail: Tail = tail
        self.seed, self.shuffle = seed, shuffle
        self.min_users_per_batch, self.memory_bytes = min_users_per_batch, memory_bytes
        self.stats = ReaderStats()
        self._window = window
        self._plan: Plan | None = None
        self._cache = cache
        self._kept: KeptEntries | None = None

    @property
    def plan(self) -> Plan:
        """The read units of the snapshot; made on first use."""
        if self._plan is None:
            with self.stats.timed("plan_s"):
                self._plan = plan_sources(self.sources)
                if self._cache is not None:
                    entries = [unit.entry for unit in self._plan.units if unit.entry is not None]
                    self._kept = KeptEntries(self._cache, entries, self.stats)
        return self._plan

    @property
    def is_planned(self) -> bool:
        """Whether the plan is made already."""
        return self._plan is not None

    @property
    def window(self) -> int:
        """Units that are shuffled together; 1 where nothing is shuffled."""
        if not self.shuffle:
            return 1
        if self._window is None:
            self._window = widest_window(self.plan.units, self._batch_bytes, self.memory_bytes)
        return self._window

    @property
    def _batch_bytes(self) -> int:
        return batch_bytes(self.plan.units, self.batch_size, sized=self.batch_by != "requests")

    def order(self, epoch: int) -> Order:
        """The order of one epoch."""
        return Order(
            self.plan.counts,
            window=self.window,
            seed=self.seed,
            epoch=epoch,
            shuffle=self.shuffle,
            users=[unit.users for unit in self.plan.units if unit.users is not None],
            least_users=self.min_users_per_batch,
        )

    def steps(self, epoch: int, consumed: int) -> Steps:
        """The steps of an epoch after `consumed` of its requests."""
        budget = self.batch_size * self.share.world_size
        if self.batch_by == "requests":
            return Steps(step_bounds(self.plan.requests, consumed, budget, self.tail))
        sizes = self.order(epoch).sizes([u.sizes for u in self.plan.units if u.sizes is not None])
        return Steps(sized_bounds(sizes, consumed, budget, self.tail), sizes)

    def source_of(self, unit: ReadUnit) -> PinnedSource:
        """The table that a unit is of."""
        return source_of(unit, self.plan, self.sources)

    @property
    def _budget(self) -> Budget:
        """The memory bound, divided. Raises MemoryBoundError where it cannot hold the window."""
        return divide(self.plan.units, self.window, self._batch_bytes, self.memory_bytes, self._streaming_bytes)

    def _streaming_bytes(self, unit: ReadUnit) -> int:
        """Bytes that going through a unit's row group takes."""
        return self.source_of(unit).streaming_bytes(self.plan.files[unit.file], unit.row_group)
