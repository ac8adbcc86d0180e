"""`Reader`: a pinned snapshot of a request table as batches, each request exactly once an epoch."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import Any, Literal

from pyiceberg.catalog.noop import NoopCatalog
from pyiceberg.expressions import AlwaysTrue, BooleanExpression
from pyiceberg.schema import Schema
from pyiceberg.table import Table

from feature_reader.batch import Position, RequestBatch
from feature_reader.decode import Decoder
from feature_reader.errors import ReaderError, StateError
from feature_reader.files import DataFiles, streaming_bytes
from feature_reader.filters import RowFilter
from feature_reader.flat import FlatReader, FlatSource
from feature_reader.layout import build_layout, measured_lists, sequence_siblings
from feature_reader.memory import batch_bytes, divide, widest_window
from feature_reader.options import batch_unit, check_positive, pinned_schema, pinned_snapshot
from feature_reader.order import Order
from feature_reader.pipeline import Pipeline
from feature_reader.plan import Plan, Planner, ReadUnit
from feature_reader.schedule import Share, Slice, Steps, shares, sized_bounds, step_bounds
from feature_reader.slices import SliceReader, sliced
from feature_reader.state import ReaderState
from feature_reader.stats import ReaderStats
from lakehouse.catalog import open_catalog
from lakehouse.schema import open_request_table, table_spec
from lakehouse.settings import Settings
from lakehouse.spec import DatasetSpec

Tail = Literal["pad", "drop", "wrap"]
BEFORE_PLANNING = ("table_uuid", "snapshot_id", "schema_id", "row_filter", "window", "shuffle", "seed")
log = logging.getLogger(__name__)


class Reader:
    """Batches of one snapshot of a request table.

    `for batch in reader` goes through the rest of the epoch that the reader stands in; at its end the reader stands at
    the start of the next. `state_dict()` is where the next iteration begins, also after a `break`.

    table           a PyIceberg table that reqlake made; its spec says what the columns are
    columns         names of the columns to read (a sequence's fields by themselves); every column a model wants if None
    batch_requests  requests of a rank's batch; or, instead of them, at most so many
    batch_candidates, batch_tokens  candidates, or events of all sequences and candidates together (the steps of an
                    epoch then depend on its order; planning reads the lists' lengths)
    seed, shuffle   fix the order, together with epoch, snapshot and `window`
    window          read units (row groups) that are shuffled together; by default up to 8, fewer if memory_bytes is low
    row_filter      PyIceberg expression or text, `"request_ts < '2026-01-01T00:00:00+00:00'"`; applied exactly
    snapshot_id, tag  what to read instead of the current snapshot
    rank, world_size  which share of each global batch; every rank makes the same number of steps
    threads         threads that read, decode and gather
    memory_bytes    bound on decoded bytes in units and batches that wait, per reader
    tail            what becomes of the requests that do not fill the last global batch: `pad` gives shorter batches
                    (a rank that has none repeats one request with weight 0), `drop` leaves them out, `wrap` takes the
                    first requests of the epoch again. `drop_last=True` is short for `drop`.

    Raises ReaderError and its kind (feature_reader.errors), TableMissingError for an unknown snapshot or tag.
    """

    def __init__(
        self,
        table: Table,
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
    ) -> None:
        check_positive(world_size=world_size, threads=threads, memory_bytes=memory_bytes)
        self.batch_by, self.batch_size = batch_unit(
            requests=batch_requests, candidates=batch_candidates, tokens=batch_tokens
        )
        if not 0 <= rank < world_size:
            raise ReaderError(f"rank {rank} of world_size {world_size}: ranks go from 0 to {world_size - 1}")
        if window is not None:
            check_positive(window=window)
        if tail not in ("pad", "drop", "wrap"):
            raise ReaderError(f"tail {tail!r}: write 'pad', 'drop' or 'wrap'")
        if tail == "wrap" and self.batch_by != "requests":
            raise ReaderError(
                f"tail 'wrap' with batch_{self.batch_by}: only batches of requests wrap, write 'pad' or 'drop'"
            )
        self.table = table
        self.spec = table_spec(table)
        self.seed, self.shuffle = seed, shuffle
        self.share = Share(rank, world_size)
        self.threads, self.memory_bytes = threads, memory_bytes
        self.tail: Tail = "drop" if drop_last else tail
        self.stats = ReaderStats()
        schema = pinned_schema(table, schema_id)
        self._schema_id = schema.schema_id
        self.layout = build_layout(self.spec, schema, columns)
        self._filter = RowFilter(row_filter if row_filter is not None else AlwaysTrue(), schema)
        self._pinned = snapshot_id is not None or tag is not None
        self._snapshot_id = pinned_snapshot(table, snapshot_id, tag)
        self._window = window
        self._files = DataFiles(table.io, table.name_mapping())
        siblings = sequence_siblings(self.spec, schema)
        self._decoder = Decoder(self.layout, siblings)
        self._measured = measured_lists(self.batch_by, schema, siblings)
        self._planner = self._make_planner(schema)
        self._plan: Plan | None = None
        self._epoch = self._consumed = 0
        self._iteration: weakref.ref[Generator[RequestBatch, None, None]] | None = None

    @classmethod
    def open(cls, settings: Settings, table: str, **options: Any) -> Reader:
        """A reader by the table's full name, as in `Reader.open(load_settings(), "reqlake.movielens_requests")`."""
        return cls(open_request_table(open_catalog(settings), table, settings), **options)

    @staticmethod
    def from_flat(source: FlatSource, spec: DatasetSpec, **options: Any) -> FlatReader:
        """Batches of a log with one row per impression, deduplicated within a window while it is read.

        `source` is an Iceberg table, a folder or files of Parquet (Hive partitions are columns), a pyarrow dataset or
        an Arrow table (of an HF dataset: `data.with_format("arrow")[:]`). `options` are FlatReader's.
        """
        return FlatReader(source, spec, **options)

    def __getstate__(self) -> dict[str, Any]:
        """For worker processes: planned, and with a table that can be read but knows no catalog."""
        self.plan  # noqa: B018 - made on first use
        table = self.table
        alone = Table(table.name(), table.metadata, table.metadata_location, table.io, NoopCatalog("worker"))
        return self.__dict__ | {"table": alone, "_planner": None, "_iteration": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._planner = self._make_planner(pinned_schema(self.table, self._schema_id))

    def _make_planner(self, schema: Schema) -> Planner:
        return Planner(self.table, schema, self._filter, self._files, self._decoder, self._measured)

    # ---- what will be read ----------------------------------------------------------------------------------------

    @property
    def plan(self) -> Plan:
        """The read units of the snapshot; made on first use."""
        if self._plan is None:
            with self.stats.timed("plan_s"):
                self._plan = self._planner.plan(self._snapshot_id)
        return self._plan

    @property
    def window(self) -> int:
        """Units that are shuffled together; 1 where nothing is shuffled."""
        if not self.shuffle:
            return 1
        if self._window is None:
            self._window = widest_window(self.plan.units, self.memory_bytes)
        return self._window

    def order(self, epoch: int) -> Order:
        """The order of one epoch."""
        return Order(self.plan.counts, window=self.window, seed=self.seed, epoch=epoch, shuffle=self.shuffle)

    def steps(self, epoch: int, consumed: int) -> Steps:
        """The steps of an epoch after `consumed` of its requests."""
        budget = self.batch_size * self.share.world_size
        if self.batch_by == "requests":
            return Steps(step_bounds(self.plan.requests, consumed, budget, self.tail))
        sizes = self.order(epoch).sizes([u.sizes for u in self.plan.units if u.sizes is not None])
        return Steps(sized_bounds(sizes, consumed, budget, self.tail), sizes)

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
            state = replace(state, epoch=after.after.epoch, requests_consumed=after.after.requests_consumed)
        return state.to_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Stand where `state` was saved, on any number of ranks, threads and batch sizes; costs no replay.

        A reader opened without `snapshot_id` and `tag` takes the state's snapshot. Raises StateError that names each
        field in which state and reader differ.
        """
        wanted = ReaderState.from_dict(state)
        self._stop()
        if self._snapshot_id != wanted.snapshot_id and not self._pinned:
            wanted.must_match(self._state(planned=False), "table_uuid")
            known = [s.snapshot_id for s in self.table.metadata.snapshots]
            if wanted.snapshot_id is not None and wanted.snapshot_id not in known:
                raise StateError(
                    f"snapshot_id: the state's snapshot {wanted.snapshot_id} is no longer in "
                    f"{'.'.join(self.table.name())} (it was expired; tag the snapshot of a long run). Start a new run"
                )
            log.info("reading snapshot %s of the state instead of %s", wanted.snapshot_id, self._snapshot_id)
            self._snapshot_id, self._plan = wanted.snapshot_id, None
        if self._window is None and self.shuffle:
            self._window = wanted.window
        wanted.must_match(
            self._state(planned=False),
            "table_uuid",
            "snapshot_id",
            "schema_id",
            "row_filter",
            "window",
            "shuffle",
            "seed",
        )
        wanted.must_match(self._state(), "plan_hash")
        self._epoch, self._consumed = wanted.epoch, wanted.requests_consumed

    def _state(self, *, planned: bool = True) -> ReaderState:
        return ReaderState(
            table_uuid=str(self.table.metadata.table_uuid),
            snapshot_id=self._snapshot_id,
            schema_id=self._schema_id,
            row_filter=self._filter.text,
            window=self.window,
            shuffle=self.shuffle,
            plan_hash=self.plan.hash if planned else "",
            seed=self.seed,
            epoch=self._epoch,
            requests_consumed=self._consumed,
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
        """Stand at a place of the order that some batch of this reader was given with."""
        self._stop()
        self._epoch, self._consumed = position.epoch, position.requests_consumed

    def _batches(self, share: Share) -> Generator[RequestBatch, None, None]:
        plan, start = self.plan, perf_counter()
        order = self.order(self._epoch)
        steps = self.steps(self._epoch, self._consumed)
        size = batch_bytes(plan.units, self.batch_size, sized=self.batch_by != "requests")
        budget = divide(plan.units, self.window, size, self.memory_bytes, self._streaming_bytes)
        slices = SliceReader(self._files)
        pipeline = Pipeline(
            plan,
            sliced(shares(order, steps, share), plan, budget, in_order=not self.shuffle),
            partial(self._decode, slices),
            threads=self.threads,
            unit_bytes=budget.unit_bytes,
            chunk_bytes=budget.ahead_bytes,
            stats=self.stats,
        )
        first = True
        with closing(slices):
            for step, batch in pipeline:
                if first:
                    self.stats.first_batch_s, first = perf_counter() - start, False
                self._consumed = min(int(steps.bounds[step + 1]), order.requests)
                self.stats.add(steps=1, requests=batch.R, candidates=batch.C, padding=batch.padding)
                yield replace(batch, after=Position(self._epoch, self._consumed))
                del batch  # or it would be held while the next one is awaited
        left = order.requests - int(steps.bounds[-1])
        self.stats.add(dropped=max(0, left), wrapped=max(0, -left))
        self._epoch, self._consumed = self._epoch + 1, 0

    def _decode(self, slices: SliceReader, number: int, part: Slice | None) -> RequestBatch:
        """One unit as a batch of all its rows, or of a part of them."""
        unit = self.plan.units[number]
        path = self.plan.files[unit.file]
        present = self._files.footer(path).present
        with self.stats.timed("read_s"):
            columns = [present[f.field_id] for f in self._decoder.needs(present)]
            if part is None:
                table = self._files.read(path, unit.row_group, columns)
            else:
                table = slices.read(path, unit.row_group, columns, part)
        with self.stats.timed("decode_s"):
            batch = self._decoder(table, present, f"{path}, row group {unit.row_group}")
        self.stats.add(units=part is None, slices=part is not None, decoded_bytes=batch.nbytes)
        return batch

    def _streaming_bytes(self, unit: ReadUnit) -> int:
        """Bytes that going through a unit's row group takes."""
        path = self.plan.files[unit.file]
        footer = self._files.footer(path)
        columns = [footer.present[f.field_id] for f in self._decoder.needs(footer.present)]
        return streaming_bytes(footer, unit.row_group, columns, path)

    def compressed_bytes(self, unit: ReadUnit) -> int:
        """Bytes of a unit's columns as they lie in its file."""
        footer = self._files.footer(self.plan.files[unit.file])
        group = footer.metadata.row_group(unit.row_group)
        names = [footer.present[f.field_id] for f in self._decoder.needs(footer.present)]
        return sum(group.column(leaf).total_compressed_size for name in names for leaf in footer.leaves[name])

    def _stop(self) -> None:
        iteration = self._iteration() if self._iteration is not None else None
        if iteration is not None:
            iteration.close()
