"""`Reader`: a pinned snapshot of a request table as batches, each request exactly once an epoch."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from copy import copy
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import pyarrow as pa
from pyiceberg.expressions import BooleanExpression
from pyiceberg.table import Table

from feature_reader.batch import Position, RequestBatch
from feature_reader.cache import DiskCache
from feature_reader.course import Course, Tail
from feature_reader.damage import Damage
from feature_reader.errors import ReaderError, StateError
from feature_reader.flat import FlatReader, FlatSource
from feature_reader.notebook import masked, reader_html
from feature_reader.options import batch_unit, check_positive, check_share, check_tail, check_users
from feature_reader.pipeline import Pipeline
from feature_reader.predicates import Predicate, SkipRequests, skipped
from feature_reader.schedule import Share, shares
from feature_reader.slices import sliced
from feature_reader.sources import Source, open_sources
from feature_reader.state import ReaderState
from feature_reader.stats import ReaderStats
from feature_reader.storage import Credentials
from feature_reader.units import UnitReader
from lakehouse.catalog import open_catalog
from lakehouse.schema import open_request_table
from lakehouse.settings import Settings
from lakehouse.spec import DatasetSpec

LEFT_OUT = ("predicate", "skip_requests", "min_users_per_batch")
BEFORE_PLANNING = ("table_uuid", "snapshot_id", "schema_id", "row_filter", "window", "shuffle", "seed", *LEFT_OUT)
log = logging.getLogger(__name__)


class Reader(Course):
    """Batches of one snapshot of a request table, or of one of each of several.

    `for batch in reader` goes through the rest of the epoch that the reader stands in; at its end the reader stands at
    the start of the next. `state_dict()` is where the next iteration begins, also after a `break`.

    table           a PyIceberg table that reqlake made; its spec says what the columns are. Or a list of such tables
                    and of `Source`s (a table at a tag, snapshot or schema of its own), which have the same columns
    columns         names of the columns to read (a sequence's fields by themselves); every column a model wants if None
    batch_requests  requests of a rank's batch; or, instead of them, at most so many
    batch_candidates, batch_tokens  candidates, or events of all sequences and candidates together (the steps of an
                    epoch then depend on its order; planning reads the lists' lengths)
    seed, shuffle   fix the order, together with epoch, snapshot and `window`
    window          read units (row groups) that are shuffled together; by default up to 8, fewer if memory_bytes is low
    row_filter      PyIceberg expression or text, `"request_ts < '2026-01-01T00:00:00+00:00'"`; applied exactly
    snapshot_id, tag  what to read instead of the current snapshot; of several tables the tag of each
    rank, world_size  which share of each global batch; every rank makes the same number of steps
    threads         threads that read, decode and gather
    memory_bytes    bound on decoded bytes in units and batches that wait, per reader
    tail            what becomes of the requests that do not fill the last global batch: `pad` gives shorter batches
                    (a rank that has none repeats one request with weight 0), `drop` leaves them out, `wrap` takes the
                    first requests of the epoch again. `drop_last=True` is short for `drop`.
    credentials     gives storage properties anew (`s3.access-key-id`, …) when those in use are refused, as after they
                    expired; without it the table is loaded anew, for catalogs that vend credentials
    cache           a DiskCache for files that are not on this machine
    min_users_per_batch  the order keeps requests of one user so far apart that a batch within one window, or of twice
                    as many requests, has that many users, where the window allows it; `stats.few_users` counts the
                    others. Planning reads the users
    predicate       a Predicate: which requests to read, by columns of theirs, asked while planning
    skip_requests   keys of requests to leave out: a Parquet or CSV file, or a table (SkipRequests)
    skip_bad_requests  how many requests may be left out because they cannot be read (`damage`, `stats.bad_requests`);
                    with 0 the first is an error. Batches are smaller then, their number stays

    Raises ReaderError and its kind (feature_reader.errors), TableMissingError for an unknown snapshot or tag.
    """

    def __init__(
        self,
        table: Table | Sequence[Table | Source],
        *,
        columns: Iterable[str] | None = None,
        batch_requests: int | None = None,
        batch_candidates: int | None = None,
        batch_tokens: int | None = None,
        seed: int = 0,
        shuffle: bool = True,
        window: int | None = None,
        row_filter: str | BooleanExpression | None = None,
        snapshot_id: int | None = None,
        tag: str | None = None,
        schema_id: int | None = None,
        rank: int = 0,
        world_size: int = 1,
        threads: int = 2,
        memory_bytes: int = 1 << 30,
        tail: Tail = "pad",
        drop_last: bool = False,
        credentials: Credentials | None = None,
        cache: DiskCache | None = None,
        min_users_per_batch: int = 0,
        predicate: Predicate | None = None,
        skip_requests: SkipRequests | pa.Table | str | Path | None = None,
        skip_bad_requests: int = 0,
    ) -> None:
        check_positive(world_size=world_size, threads=threads, memory_bytes=memory_bytes)
        batch_by, batch_size = batch_unit(requests=batch_requests, candidates=batch_candidates, tokens=batch_tokens)
        check_share(rank, world_size)
        if window is not None:
            check_positive(window=window)
        check_tail(tail, batch_by)
        check_users(min_users_per_batch, batch_by, batch_size, shuffle=shuffle)
        if skip_bad_requests < 0:
            raise ReaderError(f"skip_bad_requests={skip_bad_requests}: give how many may be left out, 0 for none")
        self.predicate = predicate
        self.skip_requests = skipped(skip_requests)
        self.damage = Damage(skip_bad_requests)
        sources = open_sources(
            table,
            tag=tag,
            snapshot_id=snapshot_id,
            schema_id=schema_id,
            columns=columns,
            row_filter=row_filter,
            batch_by=batch_by,
            credentials=credentials,
            cached=cache is not None,
            predicates=[
                *([predicate] if predicate is not None else []),
                *([self.skip_requests.predicate()] if self.skip_requests is not None else []),
            ],
            wants_users=min_users_per_batch > 1,
            damage=self.damage,
        )
        super().__init__(
            sources,
            batch_by=batch_by,
            batch_size=batch_size,
            share=Share(rank, world_size),
            tail="drop" if drop_last else tail,
            seed=seed,
            shuffle=shuffle,
            window=window,
            min_users_per_batch=min_users_per_batch,
            memory_bytes=memory_bytes,
            cache=cache,
        )
        self.threads = threads
        self._masked = masked(self.spec)
        self._epoch = self._consumed = 0
        self._iteration: weakref.ref[Generator[RequestBatch, None, None]] | None = None

    @classmethod
    def open(cls, settings: Settings, table: str | Sequence[str], **options: Any) -> Reader:
        """A reader by the table's full name, or by those of several.

        As in `Reader.open(load_settings(), "reqlake.movielens_requests")`.
        """
        catalog = open_catalog(settings)
        if isinstance(table, str):
            return cls(open_request_table(catalog, table, settings), **options)
        return cls([open_request_table(catalog, name, settings) for name in table], **options)

    @staticmethod
    def from_flat(source: FlatSource, spec: DatasetSpec, **options: Any) -> FlatReader:
        """Batches of a log with one row per impression, deduplicated within a window while it is read.

        `source` is an Iceberg table, a folder or files of Parquet (Hive partitions are columns), a pyarrow dataset or
        an Arrow table (of an HF dataset: `data.with_format("arrow")[:]`). `options` are FlatReader's.
        """
        return FlatReader(source, spec, **options)

    def __getstate__(self) -> dict[str, Any]:
        """For worker processes: planned, and with tables that can be read but know no catalog."""
        self.plan  # noqa: B018 - made on first use
        return {name: value for name, value in self.__dict__.items() if name != "table"} | {"_iteration": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.table = self.sources[0].table

    # ---- place ----------------------------------------------------------------------------------------------------

    def _repr_html_(self) -> str:
        return reader_html(self)

    def __len__(self) -> int:
        """Steps of the whole epoch that the reader stands in, the same on every rank."""
        return len(self.steps(self._epoch, 0))

    @property
    def epoch(self) -> int:
        """The epoch that the reader stands in. Setting it moves the reader to that epoch's start."""
        return self._epoch

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        if epoch < 0:
            raise ReaderError(f"epoch {epoch}: epochs count from 0")
        self._stop()
        self._epoch, self._consumed = epoch, 0

    @property
    def requests_consumed(self) -> int:
        """Requests of this epoch that all ranks together have been given."""
        return self._consumed

    # ---- state ----------------------------------------------------------------------------------------------------

    def state_dict(self, after: RequestBatch | None = None) -> dict[str, Any]:
        """Where the next batch comes from, as small JSON; the same on every rank that has made as many steps.

        With `after`, the state once that batch is used: for loops that fetch batches ahead of using them.
        """
        state = self._state()
        if after is not None:
            if after.after is None:
                raise ReaderError("a cut or joined batch has no place in the order: give a batch as it was read")
            self.damage.load(after.after.damage)  # a worker process may have met it
            state = replace(
                state,
                damage=self.damage.units,
                epoch=after.after.epoch,
                requests_consumed=after.after.requests_consumed,
            )
        return state.to_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Stand where `state` was saved, on any number of ranks, threads and batch sizes; costs no replay.

        A reader opened without `snapshot_id` and `tag` takes the state's snapshot. Raises StateError that names each
        field in which state and reader differ.
        """
        wanted = ReaderState.from_dict(state).for_tables([source.label for source in self.sources])
        self._stop()
        self._take_snapshots(wanted)
        if self._window is None and self.shuffle:
            self._window = wanted.window
        wanted.must_match(self._state(planned=False), *BEFORE_PLANNING)
        self.damage.load(wanted.damage)
        wanted.must_match(self._state(), "plan_hash")
        self._epoch, self._consumed = wanted.epoch, wanted.requests_consumed

    def _take_snapshots(self, wanted: ReaderState) -> None:
        """Read the state's snapshots of the tables for which none was named."""
        others = [s for s in self.sources if s.snapshot_id != wanted.tables[s.label].snapshot_id and not s.is_pinned]
        if others:
            wanted.must_match(self._state(planned=False), "table_uuid")
        for source in others:
            snapshot_id = wanted.tables[source.label].snapshot_id
            if snapshot_id is not None and not source.has_snapshot(snapshot_id):
                raise StateError(
                    f"snapshot_id: the state's snapshot {snapshot_id} is no longer in {'.'.join(source.table.name())} "
                    "(it was expired; tag the snapshot of a long run). Start a new run"
                )
        for source in others:
            snapshot_id = wanted.tables[source.label].snapshot_id
            log.info("reading snapshot %s of the state instead of %s", snapshot_id, source.snapshot_id)
            source.snapshot_id, self._plan = snapshot_id, None

    def _state(self, *, planned: bool = True) -> ReaderState:
        return ReaderState(
            tables={source.label: source.pin for source in self.sources},
            row_filter=self.sources[0].filter.text,
            window=self.window,
            shuffle=self.shuffle,
            plan_hash=self.plan.hash if planned else "",
            seed=self.seed,
            epoch=self._epoch,
            requests_consumed=self._consumed,
            predicate=self.predicate.name if self.predicate is not None else "",
            skip_requests=self.skip_requests.name if self.skip_requests is not None else "",
            min_users_per_batch=self.min_users_per_batch,
            damage=self.damage.units,
        )

    # ---- batches --------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[RequestBatch]:
        """The rest of the epoch. A new iteration ends the one before it."""
        return self.iterate(0, 1)

    def iterate(self, worker: int, workers: int) -> Iterator[RequestBatch]:
        """The rest of the epoch, but only every `workers`-th of its steps, from step `worker` on."""
        self._stop()
        iteration = self._batches(replace(self.share, worker=worker, workers=workers))
        self._iteration = weakref.ref(iteration)
        return iteration

    def move_to(self, position: Position) -> None:
        """Stand at a place of the order that some batch of this reader was given with, if by another process."""
        self._stop()
        self.damage.take(position.damage)
        self._epoch, self._consumed = position.epoch, position.requests_consumed

    def step(self, number: int, epoch: int | None = None) -> RequestBatch:
        """The batch of one step of an epoch (the reader's own by default), by itself; the reader stays where it is.

        Raises ReaderError for a step that the epoch does not have.
        """
        alone = copy(self)
        alone.__dict__.update(_iteration=None, stats=ReaderStats())
        epoch = self._epoch if epoch is None else epoch
        bounds = self.steps(epoch, 0).bounds
        if not 0 <= number < len(bounds) - 1:
            raise ReaderError(f"step {number}: epoch {epoch} of this reader has {len(bounds) - 1} steps, from 0")
        alone.move_to(Position(epoch, int(bounds[number])))
        return next(iter(alone))

    def _batches(self, share: Share) -> Generator[RequestBatch, None, None]:
        plan, start = self.plan, perf_counter()
        order = self.order(self._epoch)
        steps = self.steps(self._epoch, self._consumed)
        budget = self._budget
        units = UnitReader(plan, self.sources, self._kept, self.damage, self.stats)
        pipeline = Pipeline(
            plan,
            sliced(shares(order, steps, share), plan, budget, in_order=not self.shuffle),
            units,
            threads=self.threads,
            unit_bytes=budget.unit_bytes,
            chunk_bytes=budget.ahead_bytes,
            stats=self.stats,
            lost=self.damage.rows,
            stand_in=units.stand_in,
        )
        first = True
        with closing(units):
            for step, batch in pipeline:
                if first:
                    self.stats.first_batch_s, first = perf_counter() - start, False
                self._consumed = min(int(steps.bounds[step + 1]), order.requests)
                self.stats.add(steps=1, requests=batch.R, candidates=batch.C, padding=batch.padding)
                damage = tuple(self.damage.places)
                after = Position(self._epoch, self._consumed, damage)
                yield replace(batch, after=after, sensitive=self._masked)
                del batch  # or it would be held while the next one is awaited
        left = order.requests - int(steps.bounds[-1])
        self.stats.add(dropped=max(0, left), wrapped=max(0, -left))
        self._epoch, self._consumed = self._epoch + 1, 0

    def _stop(self) -> None:
        iteration = self._iteration() if self._iteration is not None else None
        if iteration is not None:
            iteration.close()
