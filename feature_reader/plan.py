"""What a reader will read: one read unit per row group, in an order that the table's content alone decides.

PyIceberg plans files newest commit first, so its order changes with each compaction's history; here files are sorted by
(partition, lower bound of user_id, path without scheme). Deletes and the row filter are resolved here, so that every
count after this point is exact.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow.compute as pc
from pyiceberg.conversions import from_bytes
from pyiceberg.manifest import DataFile, FileFormat
from pyiceberg.schema import Schema
from pyiceberg.table import FileScanTask, Table

from feature_reader.columns import one_array
from feature_reader.decode import Decoder
from feature_reader.deletes import deleted_rows
from feature_reader.errors import UnsupportedError
from feature_reader.files import DataFiles, Footer, bare_path
from feature_reader.filters import RowFilter
from feature_reader.layout import ANCHOR

FOOTER_THREADS = 8
OFFSET_BYTES = 12  # Arrow's int32 and the batch's int64


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

    @property
    def requests(self) -> int:
        """Requests that the unit gives."""
        return self.rows if self.keep is None else len(self.keep)


@dataclass(frozen=True)
class Plan:
    """The units of one snapshot under one filter; empty units are left out."""

    snapshot_id: int | None
    files: tuple[str, ...]
    units: tuple[ReadUnit, ...]
    deleted: int
    """Requests that delete files remove."""
    filtered: int
    """Requests that the row filter drops inside the files that it does not prune."""

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
        """Names the order: SHA-256 (16 hex digits) over snapshot, files, row groups and the rows kept of each."""
        digest = hashlib.sha256(str(self.snapshot_id).encode())
        for unit in self.units:
            digest.update(f"\n{bare_path(self.files[unit.file])} {unit.row_group} {unit.rows}".encode())
            if unit.keep is not None:
                digest.update(np.ascontiguousarray(unit.keep, dtype="<i8").tobytes())
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Planner:
    """Plans snapshots of one table under one filter and layout."""

    table: Table
    schema: Schema
    row_filter: RowFilter
    files: DataFiles
    decoder: Decoder
    measured: tuple[tuple[int, ...], ...] = ()
    """Field ids of the lists whose lengths add up to a request's size; of each group the first that a file has."""

    def plan(self, snapshot_id: int | None) -> Plan:
        """Plan a snapshot. Raises DataFileError for an unreadable file, UnsupportedError for equality deletes."""
        if snapshot_id is None:
            return Plan(None, (), (), 0, 0)
        tasks = sorted(self._tasks(snapshot_id), key=lambda t: _sort_key(t.file, self.schema))
        with ThreadPoolExecutor(FOOTER_THREADS, thread_name_prefix="reqlake-plan") as pool:
            gone = deleted_rows(self.table.io, tasks, pool)

            def one(numbered: tuple[int, FileScanTask]) -> tuple[list[ReadUnit], int, int]:
                path = numbered[1].file.file_path
                return self._units(numbered[0], path, gone.get(bare_path(path), np.zeros(0, np.int64)))

            planned = list(pool.map(one, enumerate(tasks)))
        return Plan(
            snapshot_id,
            tuple(t.file.file_path for t in tasks),
            tuple(u for units, _, _ in planned for u in units if u.requests),
            sum(deleted for _, deleted, _ in planned),
            sum(filtered for _, _, filtered in planned),
        )

    def _tasks(self, snapshot_id: int) -> list[FileScanTask]:
        scan = self.table.scan(row_filter=self.row_filter.expression, snapshot_id=snapshot_id)
        try:
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

    def _units(self, index: int, path: str, deleted: np.ndarray) -> tuple[list[ReadUnit], int, int]:
        """The units of one file, and how many of its rows the deletes and the filter take."""
        footer = self.files.footer(path)
        units, lost, dropped, first = [], 0, 0, 0
        for group in range(footer.metadata.num_row_groups):
            rows = footer.metadata.row_group(group).num_rows
            here = deleted[np.searchsorted(deleted, first) : np.searchsorted(deleted, first + rows)] - first
            keep = np.setdiff1d(np.arange(rows), here, assume_unique=True) if len(here) else None
            lost += len(here)
            if not self.row_filter.is_always_true:
                table = self.files.read(path, group, self.row_filter.columns(footer.present))
                passed = self.row_filter.keep(table, footer.present)
                remain = passed if keep is None else np.intersect1d(keep, passed, assume_unique=True)
                dropped += (rows if keep is None else len(keep)) - len(remain)
                keep = remain if len(remain) < rows else None
            candidates, size = _size(footer, group, self.decoder)
            sizes = self._sizes(path, group, keep) if self.measured else None
            units.append(ReadUnit(index, group, rows, keep, candidates, size, sizes))
            first += rows
        return units, lost, dropped

    def _sizes(self, path: str, group: int, keep: np.ndarray | None) -> np.ndarray:
        present = self.files.footer(path).present
        names = [
            next(present[i] for i in ids if i in present) for ids in self.measured if any(i in present for i in ids)
        ]
        table = self.files.read(path, group, names)
        total = np.zeros(table.num_rows, np.int64)
        for name in names:
            total += pc.fill_null(pc.list_value_length(one_array(table[name])), 0).to_numpy(zero_copy_only=False)
        return total if keep is None else total[keep]


def _sort_key(file: DataFile, schema: Schema) -> tuple[Any, ...]:
    user = schema.find_field("user_id")
    bound = (file.lower_bounds or {}).get(user.field_id)
    lowest = -(1 << 63) if bound is None else from_bytes(user.field_type, bound)  # type: ignore[arg-type]
    values = [file.partition[i] for i in range(len(file.partition))]
    partition = tuple((v is not None, type(v).__name__, v) for v in values)
    return (file.spec_id, partition, lowest, bare_path(file.file_path))


def _size(footer: Footer, group: int, decoder: Decoder) -> tuple[int, int]:
    """Candidates and decoded bytes of a row group, from the value counts in the footer."""
    metadata = footer.metadata.row_group(group)
    leaves = [
        (field, metadata.column(leaf).num_values)
        for field in decoder.needs(footer.present)
        for leaf in footer.leaves[footer.present[field.field_id]]
    ]
    candidates = next((values for field, values in leaves if field.name == ANCHOR), 0)
    size = 0
    for field, values in leaves:
        width = field.dtype.itemsize + (4 if field.element == "string" else 0)
        offsets = (metadata.num_rows if field.listed else 0) + (candidates if field.listed == 2 else 0)
        size += values * width + offsets * OFFSET_BYTES
    return candidates, size
