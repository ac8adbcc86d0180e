"""Which partitions of a request table are due for compaction, why, and what it would save. Reads manifests alone.

A partition suffers from small files (an open and a footer each), from files whose ranges of users overlap (a user's
point query opens as many), and from delete files (each read beside its data file).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from pyiceberg.conversions import from_bytes
from pyiceberg.manifest import DataFile, DataFileContent
from pyiceberg.partitioning import PartitionField
from pyiceberg.table import Table
from pyiceberg.transforms import BucketTransform, DayTransform, IdentityTransform, MonthTransform, YearTransform
from pyiceberg.types import LongType

from lakehouse.errors import FormatError
from lakehouse.settings import MaintenanceSettings

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class PartitionHealth:
    """One partition. `overlap_depth`: most files that may hold one user; `reasons`: why it is due."""

    spec_id: int
    values: tuple[Any, ...]
    name: str
    files: int
    file_bytes: int
    rows: int
    row_groups: int
    small_files: int
    overlap_depth: int
    delete_files: int
    deleted_rows: int
    equality_deletes: bool
    files_after: int
    reasons: tuple[str, ...] = field(default=())

    @property
    def due(self) -> bool:
        """Whether a compaction pays."""
        return bool(self.reasons)

    @property
    def saved_bytes(self) -> int:
        """Bytes of rows that are deleted but still stored, by their share."""
        return int(self.file_bytes * min(self.deleted_rows / self.rows, 1.0)) if self.rows else 0


def partition_health(table: Table, limits: MaintenanceSettings, *, by_user: bool = True) -> list[PartitionHealth]:
    """Every partition of the current snapshot, those that are due first and largest first among them.

    Unless `by_user`, files are not ordered by user, and how their ranges overlap is no reason.
    """
    grouped: dict[tuple[int, tuple[Any, ...]], list[DataFile]] = {}
    for spec_id, file in live_files(table):
        grouped.setdefault((spec_id, tuple(file.partition[i] for i in range(len(file.partition)))), []).append(file)
    found = [
        _judge(table, spec_id, values, files, limits, by_user=by_user) for (spec_id, values), files in grouped.items()
    ]
    return sorted(found, key=lambda p: (not p.due, -p.file_bytes, p.name))


def live_files(table: Table, snapshot_id: int | None = None) -> Iterator[tuple[int, DataFile]]:
    """(partition spec id, file) of every data and delete file of a snapshot, the current one by default."""
    snapshot = table.current_snapshot() if snapshot_id is None else table.snapshot_by_id(snapshot_id)
    for manifest in snapshot.manifests(table.io) if snapshot else ():
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True):
            yield manifest.partition_spec_id, entry.data_file


def _judge(
    table: Table,
    spec_id: int,
    values: tuple[Any, ...],
    files: list[DataFile],
    limits: MaintenanceSettings,
    *,
    by_user: bool,
) -> PartitionHealth:
    data = [f for f in files if f.content == DataFileContent.DATA]
    deletes = [f for f in files if f.content != DataFileContent.DATA]
    size, rows = sum(f.file_size_in_bytes for f in data), sum(f.record_count for f in data)
    small = sum(f.file_size_in_bytes < limits.small_file_bytes for f in data)
    deleted = sum(f.record_count for f in deletes if f.content == DataFileContent.POSITION_DELETES)
    equality = any(f.content == DataFileContent.EQUALITY_DELETES for f in deletes)
    depth = overlap_depth(_user_range(table, f) for f in data) if by_user else 1
    after = max(1, math.ceil(size / limits.target_file_bytes)) if data else 0
    reasons = []
    if small >= limits.small_files and len(data) > after:
        reasons.append(f"{small} small files")
    if depth >= limits.overlap_depth:
        reasons.append(f"{depth} files may hold one user")
    if equality:
        reasons.append("equality deletes")
    elif rows and deleted / rows >= limits.deleted_share:
        reasons.append(f"{deleted / rows:.0%} of the rows are deleted")
    groups = sum(len(f.split_offsets or ()) or 1 for f in data)
    return PartitionHealth(
        spec_id,
        values,
        _name(table, spec_id, values),
        len(data),
        size,
        rows,
        groups,
        small,
        depth,
        len(deletes),
        deleted,
        equality,
        after,
        tuple(reasons),
    )


def overlap_depth(ranges: Any) -> int:
    """Most of the closed ranges (low, high) that share a point; one without bounds (None) meets every other."""
    events, everywhere = [], 0
    for found in ranges:
        if found is None:
            everywhere += 1
        else:
            events += [(found[0], 0), (found[1], 1)]
    depth = most = 0
    for _, end in sorted(events):
        depth += -1 if end else 1
        most = max(most, depth)
    return most + everywhere


def _user_range(table: Table, file: DataFile) -> tuple[int, int] | None:
    field_id = table.schema().find_field("user_id").field_id
    low, high = (bounds.get(field_id) if bounds else None for bounds in (file.lower_bounds, file.upper_bounds))
    if low is None or high is None:
        return None
    return int(from_bytes(LongType(), low)), int(from_bytes(LongType(), high))


def _name(table: Table, spec_id: int, values: tuple[Any, ...]) -> str:
    fields = table.specs()[spec_id].fields
    parts = [f"{f.name}={_shown(f, v)}" for f, v in zip(fields, values, strict=True)]
    return "/".join(parts) or "whole table"


def _shown(partition: PartitionField, value: Any) -> str:
    span = time_span(partition, value)
    if span is None:
        return str(value)
    digits: dict[type[Any], int] = {DayTransform: 10, MonthTransform: 7, YearTransform: 4}
    return span[0].isoformat()[: digits[type(partition.transform)]]


def time_span(partition: PartitionField, value: Any) -> tuple[datetime, datetime] | None:
    """The half-open span of time of a year, month or day partition; None for other transforms."""
    kind = partition.transform
    if isinstance(kind, DayTransform):
        days = value if isinstance(value, int) else (value - EPOCH.date()).days
        start = EPOCH + timedelta(days=days)
        return start, start + timedelta(days=1)
    if isinstance(kind, MonthTransform | YearTransform):
        months = value if isinstance(kind, MonthTransform) else value * 12
        step = 1 if isinstance(kind, MonthTransform) else 12
        return _month(months), _month(months + step)
    return None


def _month(since_epoch: int) -> datetime:
    return datetime(1970 + since_epoch // 12, since_epoch % 12 + 1, 1, tzinfo=UTC)


def spark_condition(table: Table, spark_catalog: str, partition: PartitionHealth) -> str:
    """Spark SQL that holds for exactly the rows of one partition. Raises FormatError for transforms of others."""
    return partition_condition(table, spark_catalog, partition.spec_id, partition.values)


def partition_condition(table: Table, spark_catalog: str, spec_id: int, values: tuple[Any, ...]) -> str:
    """The same for a partition by its values. Raises FormatError for transforms of others."""
    schema, parts = table.schema(), []
    for field_, value in zip(table.specs()[spec_id].fields, values, strict=True):
        column = f"`{schema.find_column_name(field_.source_id)}`"
        span = None if value is None else time_span(field_, value)
        if value is None:
            parts.append(f"{column} IS NULL")
        elif span is not None:
            low, high = (f"TIMESTAMP '{at:%Y-%m-%d %H:%M:%S}'" for at in span)
            parts.append(f"{column} >= {low} AND {column} < {high}")
        elif isinstance(field_.transform, BucketTransform):
            parts.append(f"{spark_catalog}.system.bucket({field_.transform.num_buckets}, {column}) = {value}")
        elif isinstance(field_.transform, IdentityTransform):
            parts.append(f"{column} = {_literal(value)}")
        else:
            raise FormatError(f"{'.'.join(table.name())} is partitioned by {field_.transform}, which no reqlake makes")
    return " AND ".join(parts) or "true"


def _literal(value: Any) -> str:
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace("'", "\\'")
        return f"'{escaped}'"
    return str(value).lower() if isinstance(value, bool) else str(value)
