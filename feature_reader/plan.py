"""What a reader will read: one read unit per row group, in an order that the table's content alone decides.

PyIceberg plans files newest commit first, so its order changes with each compaction's history; here files are sorted by
(partition, lower bound of user_id, path without scheme). Deletes and the row filter are resolved here, so that every
count after this point is exact.
"""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.conversions import from_bytes
from pyiceberg.manifest import DataFile, FileFormat
from pyiceberg.schema import Schema
from pyiceberg.table import FileScanTask, Table
from pyiceberg.types import NestedField

from feature_reader.cache import Entry, entry_of
from feature_reader.columns import one_array
from feature_reader.damage import WHOLE_FILE, Damage
from feature_reader.decode import Decoder
from feature_reader.deletes import deleted_rows
from feature_reader.errors import DataFileError, UnsupportedError
from feature_reader.files import DataFiles, bare_path, is_local
from feature_reader.filters import RowFilter
from feature_reader.predicates import Screen
from feature_reader.sizes import unit_size
from feature_reader.storage import file_errors

FOOTER_THREADS = 8  # where a footer waits for a network or a filter is read; else parsing holds the GIL
FILES_AT_ONCE = 16  # of one task of a thread
NO_ROWS = np.zeros(0, np.int64)


@dataclass(frozen=True)
class ReadUnit:
    """One row group of one file."""

    file: int
    row_group: int
    rows: int
    keep: np.ndarray | None
    """Row numbers within the group that deletes and filter leave, ascending; None for all."""
    candidates: int
    """Candidates of all rows, by the footer (a request without candidates counts as one)."""
    decoded_bytes: int
    """Bytes of the columns read, decoded, by the footer."""
    sizes: np.ndarray | None = None
    """Candidates or tokens of each request kept, where batches are cut by them."""
    users: np.ndarray | None = None
    """The user of each request kept, where batches hold a least number of them."""
    entry: Entry | None = None
    """What it would be in a disk cache, for a remote file and a reader that has one."""

    @property
    def requests(self) -> int:
        """Requests that the unit gives."""
        return self.rows if self.keep is None else len(self.keep)


@dataclass(frozen=True)
class Plan:
    """The units of a snapshot, or of one of each table, under one filter; empty units are left out."""

    snapshot_ids: tuple[int | None, ...]
    files: tuple[str, ...]
    units: tuple[ReadUnit, ...]
    deleted: int
    """Requests that delete files remove."""
    filtered: int
    """Requests that the row filter drops inside the files that it does not prune."""
    tables: tuple[int, ...] = ()
    """Which of the reader's tables each file is of."""
    left_out: tuple[int, ...] = ()
    """Requests that each of the reader's predicates drops (the one of its `skip_requests` is the last)."""

    @cached_property
    def counts(self) -> np.ndarray:
        """Requests of each unit, int64 [units]."""
        return np.array([u.requests for u in self.units], dtype=np.int64)

    @property
    def requests(self) -> int:
        """Requests of one epoch."""
        return int(self.counts.sum())

    @property
    def decoded_bytes(self) -> int:
        """Decoded bytes of one epoch."""
        return sum(u.decoded_bytes for u in self.units)

    @cached_property
    def hash(self) -> str:
        """Names the order: SHA-256 (16 hex digits) over snapshots, files, row groups and the rows kept of each."""
        digest = hashlib.sha256(", ".join(map(str, self.snapshot_ids)).encode())
        for unit in self.units:
            digest.update(f"\n{bare_path(self.files[unit.file])} {unit.row_group} {unit.rows}".encode())
            if unit.keep is not None:
                digest.update(np.ascontiguousarray(unit.keep, dtype="<i8").tobytes())
        return digest.hexdigest()[:16]


@dataclass
class _PlannedFile:
    """The units of one file, and how many of its requests deletes, the filter and each predicate take."""

    units: list[ReadUnit]
    deleted: int
    filtered: int
    left_out: list[int]


@dataclass(frozen=True)
class Planner:
    """Plans snapshots of one table under one filter and layout."""

    table: Table
    schema: Schema
    row_filter: RowFilter
    files: DataFiles
    decoder: Decoder
    screen: Screen
    damage: Damage
    measured: tuple[tuple[int, ...], ...] = ()
    """Field ids of the lists whose lengths add up to a request's size; of each group the first that a file has."""
    cached: bool = False
    """Whether units get the entries that they would have in a disk cache."""

    def plan(self, snapshot_id: int | None) -> Plan:
        """Plan a snapshot. Raises DataFileError for an unreadable file, UnsupportedError for equality deletes."""
        if snapshot_id is None:
            return Plan((None,), (), (), 0, 0)
        with _no_collection():
            return self._planned(snapshot_id)

    def _planned(self, snapshot_id: int) -> Plan:
        user = self.schema.find_field("user_id")
        tasks = sorted(self.tasks(snapshot_id), key=lambda t: _sort_key(t.file, user))
        paths = tuple(t.file.file_path for t in tasks)
        local = (
            self.row_filter.is_always_true
            and not self.measured
            and self.screen.is_empty
            and all(is_local(path) for path in paths)
        )
        with ThreadPoolExecutor(1 if local else FOOTER_THREADS, thread_name_prefix="reqlake-plan") as pool:
            gone = deleted_rows(self.files.storage, tasks, pool)

            def some(part: range) -> list[_PlannedFile]:
                return [self._file(i, tasks[i].file, gone.get(bare_path(paths[i]), NO_ROWS)) for i in part]

            parts = [range(i, min(i + FILES_AT_ONCE, len(tasks))) for i in range(0, len(tasks), FILES_AT_ONCE)]
            planned = [file for part in (map if local else pool.map)(some, parts) for file in part]
        return Plan(
            (snapshot_id,),
            paths,
            tuple(u for file in planned for u in file.units if u.requests),
            sum(file.deleted for file in planned),
            sum(file.filtered for file in planned),
            left_out=tuple(sum(file.left_out[i] for file in planned) for i in range(len(self.screen.predicates))),
        )

    def tasks(self, snapshot_id: int) -> list[FileScanTask]:
        """The data files that the filter does not prune, each with its delete files, in no certain order."""
        table = self.files.storage.table_to_plan
        try:
            with file_errors(f"{self.table.metadata_location}, snapshot {snapshot_id}"):
                scan = table.scan(row_filter=self.row_filter.expression, snapshot_id=snapshot_id)
                tasks = list(scan.plan_files())
        except ValueError as error:
            if "equality deletes" not in str(error):
                raise
            raise UnsupportedError(
                f"snapshot {snapshot_id} of {'.'.join(self.table.name())} has equality deletes, which the reader does "
                "not apply: rewrite the data files first (`reqlake compact`, or Spark's rewrite_data_files)"
            ) from error
        for task in tasks:
            if task.file.file_format != FileFormat.PARQUET:
                raise UnsupportedError(f"{task.file.file_path} is {task.file.file_format.name}: only Parquet is read")
        return tasks

    def _file(self, index: int, file: DataFile, deleted: np.ndarray) -> _PlannedFile:
        """One file, as far as it can be read."""
        planned = _PlannedFile([], 0, 0, [0] * len(self.screen.predicates))
        try:
            footer = self.files.footer(file.file_path)
        except DataFileError as error:
            rows = np.setdiff1d(np.arange(file.record_count), deleted, assume_unique=True)
            self.damage.lose(file.file_path, WHOLE_FILE, rows, error)
            return planned
        first = 0
        for group in range(footer.metadata.num_row_groups):
            rows = footer.metadata.row_group(group).num_rows
            here = deleted
            if len(deleted):
                here = deleted[np.searchsorted(deleted, first) : np.searchsorted(deleted, first + rows)] - first
            keep = _without(here, rows)
            planned.deleted += len(here)
            first += rows
            try:
                planned.units.append(self._unit(index, file.file_path, group, keep, planned))
            except DataFileError as error:
                self.damage.lose(file.file_path, group, np.arange(rows) if keep is None else keep, error)
        return planned

    def _unit(self, index: int, path: str, group: int, keep: np.ndarray | None, planned: _PlannedFile) -> ReadUnit:
        """One row group, of which the deletes leave the rows `keep`; counts in `planned` what filters take."""
        footer = self.files.footer(path)
        rows = footer.metadata.row_group(group).num_rows
        if not self.row_filter.is_always_true:
            table = self.files.read(path, group, self.row_filter.columns(footer.present))
            passed = self.row_filter.keep(table, footer.present)
            remain = passed if keep is None else np.intersect1d(keep, passed, assume_unique=True)
            planned.filtered += (rows if keep is None else len(keep)) - len(remain)
            keep = remain if len(remain) < rows else None
        keep, users, left_out = self.screen(path, group, rows, keep)
        planned.left_out = [a + b for a, b in zip(planned.left_out, left_out, strict=True)]
        candidates, size = unit_size(footer, group, self.decoder.needs(footer.present))
        sizes = self._sizes(path, group, keep) if self.measured else None
        entry = self._entry(path, group) if self.cached and not is_local(path) else None
        return ReadUnit(index, group, rows, keep, candidates, size, sizes, users, entry)

    def _entry(self, path: str, group: int) -> Entry:
        present = self.files.footer(path).present
        columns = [present[f.field_id] for f in self.decoder.needs(present)]
        return entry_of(path, group, self.files.ranges(path, group, columns))

    def _sizes(self, path: str, group: int, keep: np.ndarray | None) -> np.ndarray:
        present = self.files.footer(path).present
        names = [
            next(present[i] for i in ids if i in present) for ids in self.measured if any(i in present for i in ids)
        ]

        def lengths(table: pa.Table) -> np.ndarray:
            total = np.zeros(table.num_rows, np.int64)
            for name in names:
                total += pc.fill_null(pc.list_value_length(one_array(table[name])), 0).to_numpy(zero_copy_only=False)
            return total

        total = self.files.measure(path, group, names, lengths)
        return total if keep is None else total[keep]


@contextmanager
def _no_collection() -> Iterator[None]:
    """Without Python's search for cycles: it would go through a plan's objects, all in use, over and over.

    Half of the time that PyIceberg takes for the manifests of 10,000 files. The process's own garbage waits as long.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _without(deleted: np.ndarray, rows: int) -> np.ndarray | None:
    """The row numbers below `rows` that are not deleted; None for all."""
    return np.setdiff1d(np.arange(rows), deleted, assume_unique=True) if len(deleted) else None


def _sort_key(file: DataFile, user: NestedField) -> tuple[Any, ...]:
    bound = (file.lower_bounds or {}).get(user.field_id)
    lowest = -(1 << 63) if bound is None else from_bytes(user.field_type, bound)  # type: ignore[arg-type]
    values = [file.partition[i] for i in range(len(file.partition))]
    partition = tuple((v is not None, type(v).__name__, v) for v in values)
    return (file.spec_id, partition, lowest, bare_path(file.file_path))
