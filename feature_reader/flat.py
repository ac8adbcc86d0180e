"""`Reader.from_flat`: today's table, one row per impression, read as batches that hold each request once.

To try what a request table would give, without Spark and without writing: rows are deduplicated within a window while
they are read. What the window cannot see stays apart: a request whose rows lie in two windows comes twice, with the
candidates of each. `report` says how far that went, and how far a request table would go.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias, TypeGuard

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
from pyiceberg.table import Table

from feature_reader.batch import RequestBatch
from feature_reader.collate import Window
from feature_reader.decode import Decoder
from feature_reader.errors import ReaderError
from feature_reader.flat_rows import FlatRows
from feature_reader.layout import build_layout, default_columns, sequence_siblings
from feature_reader.notebook import masked
from feature_reader.options import check_positive, check_users
from feature_reader.predicates import Predicate, SkipRequests, asked, screened, skipped
from feature_reader.users import spread
from lakehouse.schema import iceberg_schema
from lakehouse.spec import DatasetSpec

FlatSource: TypeAlias = "str | Path | list[str] | Table | pa.Table | ds.Dataset"
WRITERS = ("request_hash",)
NEEDS_A_TABLE = {
    "batch_candidates": "batches are cut by requests",
    "batch_tokens": "batches are cut by requests",
    "window": "window_bytes says how much is deduplicated and shuffled together",
    "memory_bytes": "window_bytes bounds the memory",
    "row_filter": "filter the source (`pyarrow.dataset`, an Arrow table), or give a predicate",
    "tag": "give the tag's snapshot_id",
    "schema_id": "rows are read by the spec's names",
    "rank": "every reader goes through all rows",
    "world_size": "every reader goes through all rows",
    "threads": "Arrow and PyIceberg read ahead by themselves",
    "tail": "the last batch is as short as it comes",
    "drop_last": "the last batch is as short as it comes",
    "credentials": "open the source with its own credentials",
    "cache": "there is no plan whose row groups it could keep",
    "skip_bad_requests": "rows that cannot be read are of unknown requests",
}
"""Options of a Reader, and why flat rows do not have them."""
log = logging.getLogger(__name__)


@dataclass
class FlatReport:
    """What one pass over flat rows came to."""

    rows: int = 0
    given: int = 0
    """Requests that the windows held; one that lay in two windows counts twice."""
    left_out: int = 0
    """Of these those that a predicate or `skip_requests` dropped."""
    few_users: int = 0
    """Batches with fewer distinct users than `min_users_per_batch`, since their windows have no more."""
    windows: int = 0
    _seen: set[int] = field(default_factory=set, repr=False)

    def add(self, rows: int, given: int, seen: list[int]) -> None:
        """Count one window."""
        self.rows, self.given, self.windows = self.rows + rows, self.given + given, self.windows + 1
        self._seen.update(seen)

    @property
    def requests(self) -> int:
        """Distinct requests among the rows."""
        return len(self._seen)

    @property
    def reached(self) -> float:
        """Rows per request given: what the window reached."""
        return self.rows / max(1, self.given)

    @property
    def reachable(self) -> float:
        """Rows per distinct request: what a request table reaches."""
        return self.rows / max(1, self.requests)

    def __str__(self) -> str:
        return (
            f"{self.rows:,} rows as {self.given:,} requests in {self.windows:,} windows: deduplicated "
            f"{self.reached:.2f} times; a request table would reach {self.reachable:.2f} ({self.requests:,} requests)"
        )


class FlatReader:
    """Batches of a flat source; one epoch an iteration, in the source's order or shuffled within each window.

    Several tables or datasets are read one after the other. `predicate`, `skip_requests` and `min_users_per_batch` are
    Reader's, but asked window by window; what else a Reader has and flat rows do not is refused by name.

    It has no plan: no exact length, no ranks, no state to resume from. `report` is that of the latest pass, and is
    logged at its end.
    """

    def __init__(
        self,
        source: FlatSource | Sequence[Table | pa.Table | ds.Dataset],
        spec: DatasetSpec,
        *,
        columns: Iterable[str] | None = None,
        batch_requests: int = 64,
        window_bytes: int = 256 << 20,
        seed: int = 0,
        shuffle: bool = False,
        snapshot_id: int | None = None,
        predicate: Predicate | None = None,
        skip_requests: SkipRequests | pa.Table | str | Path | None = None,
        min_users_per_batch: int = 0,
        **refused: object,
    ) -> None:
        for name, value in refused.items():
            if name not in NEEDS_A_TABLE:
                raise ReaderError(f"{name}={value!r}: a reader of flat rows has no such option")
            raise ReaderError(f"{name}={value!r} is for request tables: of flat rows {NEEDS_A_TABLE[name]}")
        check_users(min_users_per_batch, "requests", batch_requests, shuffle=shuffle)
        check_positive(batch_requests=batch_requests, window_bytes=window_bytes)
        if snapshot_id is not None and not isinstance(source, Table):
            raise ReaderError(f"snapshot_id={snapshot_id}: only an Iceberg table has snapshots")
        self.spec, self.source = spec, source
        self._sources: Sequence[Any] = source if _are_several(source) else [source]
        self.batch_requests, self.window_bytes = batch_requests, window_bytes
        self.seed, self.shuffle, self.snapshot_id = seed, shuffle, snapshot_id
        self.epoch = 0
        self.report = FlatReport()
        self._masked = masked(spec)
        self._rows = FlatRows(spec)
        schema = iceberg_schema(spec)
        names = list(columns) if columns is not None else default_columns(spec)
        self.layout = build_layout(spec, schema, [n for n in names if n not in WRITERS])
        self._decoder = Decoder(self.layout, sequence_siblings(spec, schema))
        self._present = {f.field_id: f.name for f in schema.fields}
        skip = skipped(skip_requests)
        self.predicates = [p for p in (predicate, skip.predicate() if skip is not None else None) if p is not None]
        self.min_users_per_batch = min_users_per_batch
        unknown = sorted({n for p in self.predicates for n in p.columns if n in WRITERS})
        if unknown:
            raise ReaderError(f"a predicate or skip_requests reads {', '.join(unknown)}, which only an ingest makes")
        self._asked = asked(self.predicates, spec, schema)

    def __iter__(self) -> Iterator[RequestBatch]:
        self.report = report = FlatReport()
        left: list[RequestBatch] = []
        users = np.zeros(0, np.int64)
        for rows in self._windows():
            requests = self._rows.requests(rows)
            where = f"window {report.windows}"
            report.add(rows=len(rows), given=len(requests), seen=_names(*self._rows.keys(rows)))
            present = {i: n for i, n in self._present.items() if n in requests.column_names}
            order = self._order(requests, self._passing(requests, present, where), report.windows)
            whole = Window([self._decoder(requests, present, where)]).take(np.zeros(len(order), np.int64), order)
            pool = RequestBatch.concat([*left, whole])
            users = np.concatenate([users, requests["user_id"].to_numpy()[order]])
            ready = pool.R // self.batch_requests * self.batch_requests
            for start in range(0, ready, self.batch_requests):
                yield self._given(pool.slice(start, start + self.batch_requests), users[start:])
            left, users = [pool.slice(ready, pool.R).map(np.copy)] if ready < pool.R else [], users[ready:]
        for batch in left:
            yield self._given(batch, users)
        self.epoch += 1
        log.info("%s: %s", self.spec.name, report)

    def _passing(self, requests: pa.Table, present: dict[int, str], where: str) -> np.ndarray:
        """Numbers of the window's requests that no predicate drops."""
        everyone = np.ones(len(requests), bool)
        if not self.predicates:
            return np.flatnonzero(everyone)
        columns = self._asked(requests, present, where).request
        passing, dropped = screened(self.predicates, columns, everyone, where)
        self.report.left_out += sum(dropped)
        return np.flatnonzero(passing)

    def _order(self, requests: pa.Table, kept: np.ndarray, window: int) -> np.ndarray:
        """The order of a window's requests `kept`."""
        if not self.shuffle:
            return kept
        rng = np.random.Philox(key=np.array([self.seed % (1 << 64), self.epoch], np.uint64), counter=window)
        order = np.argsort(rng.random_raw(len(kept)), kind="stable")
        if self.min_users_per_batch > 1:
            order = spread(requests["user_id"].to_numpy()[kept], order, self.min_users_per_batch)
        return np.asarray(kept[order])

    def _given(self, batch: RequestBatch, users: np.ndarray) -> RequestBatch:
        """A batch as the loop gets it; `users` of its requests and of what follows."""
        self.report.few_users += len(np.unique(users[: batch.R])) < self.min_users_per_batch
        return replace(batch, sensitive=self._masked)

    def _windows(self) -> Iterator[pa.Table]:
        """Rows up to the bound; the rows of the last request are kept for the next window, where more may follow."""
        held: list[pa.Table] = []
        size = 0
        for piece in self._pieces():
            held.append(piece)
            size += piece.nbytes
            if size >= self.window_bytes:
                rows = pa.concat_tables(held)
                user, request = self._rows.keys(rows)
                other = np.flatnonzero((user != user[-1]) | (request != request[-1]))
                cut = int(other[-1]) + 1 if len(other) else len(rows)
                yield rows.slice(0, cut)
                held = [rows.slice(cut)] if cut < len(rows) else []
                size = sum(piece.nbytes for piece in held)
        if held:
            yield pa.concat_tables(held)

    def _pieces(self) -> Iterator[pa.Table]:
        for source in self._sources:
            yield from self._pieces_of(source)

    def _pieces_of(self, source: Any) -> Iterator[pa.Table]:
        if isinstance(source, Table):
            scan = source.scan(selected_fields=tuple(self._rows.raw), snapshot_id=self.snapshot_id)
            for batch in scan.to_arrow_batch_reader():
                yield from self._cut(pa.Table.from_batches([batch]))
            return
        if isinstance(source, pa.Table):
            yield from self._cut(source.select(self._rows.raw))
            return
        data = source
        if not isinstance(data, ds.Dataset):
            try:
                data = ds.dataset(data, format="parquet", partitioning="hive")
            except (OSError, pa.ArrowInvalid) as error:
                raise ReaderError(f"cannot read {source} as Parquet: {error}") from error
        missing = [name for name in self._rows.raw if name not in data.schema.names]
        if missing:
            raise ReaderError(
                f"the rows lack {', '.join(missing)}, which the spec of {self.spec.name} reads: correct the spec "
                "(`reqlake spec check --raw`)"
            )
        for batch in data.scanner(columns=self._rows.raw, batch_size=4096, batch_readahead=2).to_batches():
            if batch.num_rows:
                yield pa.Table.from_batches([batch])

    def _cut(self, table: pa.Table) -> Iterator[pa.Table]:
        step = max(1, int(self.window_bytes / max(1.0, table.nbytes / max(1, len(table)))))
        for start in range(0, len(table), step):
            yield table.slice(start, step)


def _are_several(source: object) -> TypeGuard[Sequence[Any]]:
    """Whether it is a list of tables or datasets; a list of paths is one dataset."""
    return isinstance(source, Sequence) and not isinstance(source, str) and not any(isinstance(s, str) for s in source)


def _names(user: np.ndarray, request: np.ndarray) -> list[int]:
    """One number for each distinct (user, request), as good as certain to differ where they do."""
    mixed = user.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) ^ (request.astype(np.uint64) << np.uint64(1))
    mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9) + request.astype(np.uint64)
    return list(np.unique(mixed).tolist())
