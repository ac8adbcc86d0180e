"""Which partitions still hold values of a group of columns that the spec keeps no longer, told by files' footers.

A table says up to which time, and up to which of its commits, a group was found empty. Files of before are not looked
at again; of the others, the footers' counts of nulls tell, since an empty list counts as one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow.parquet as pq
from pyiceberg.manifest import DataFile, DataFileContent
from pyiceberg.table import Table

from lakehouse.spec import Column, DatasetSpec
from lakehouse.spec.retention import replaced_by, retained_columns
from lakehouse.upkeep.health import time_span

EMPTIED = "reqlake.emptied."
THREADS = 8


@dataclass(frozen=True)
class Emptied:
    """A group's columns hold nothing in rows before a time, as of a commit (its sequence number)."""

    columns: tuple[str, ...]
    before: datetime
    sequence: int

    def to_json(self) -> str:
        """As the table's property holds it."""
        return json.dumps(asdict(self) | {"before": self.before.isoformat()}, separators=(",", ":"))


@dataclass(frozen=True)
class Due:
    """What is to be done for one table now.

    `partitions`: (partition spec id, values) with the columns that are to be emptied there, and with files and bytes;
    `records`: what can be said of each group once nothing is due.
    """

    partitions: dict[tuple[int, tuple[Any, ...]], tuple[str, ...]]
    records: dict[str, Emptied]
    files: int
    file_bytes: int


def emptied_of(table: Table, group: str) -> Emptied | None:
    """What a table says of a group."""
    text = table.properties.get(EMPTIED + group)
    if text is None:
        return None
    told = json.loads(text)
    return Emptied(tuple(told["columns"]), datetime.fromisoformat(told["before"]), told["sequence"])


def emptied_columns(table: Table, spec: DatasetSpec) -> dict[str, datetime]:
    """By column: the time before which rows have lost its values, as far as the table says so."""
    told = {group: emptied_of(table, group) for group in spec.retention}
    return {name: found.before for found in told.values() if found is not None for name in found.columns}


def cutoff(grain: str, now: datetime, kept: timedelta) -> datetime:
    """The start of the oldest period that is not older than `kept` as a whole."""
    at = now - kept
    start = {"day": (at.month, at.day), "month": (at.month, 1), "year": (1, 1)}[grain]
    return datetime(at.year, *start, tzinfo=UTC)


def due(table: Table, spec: DatasetSpec, now: datetime) -> Due:
    """What is due by the spec. Reads manifests, and footers of files that no record covers."""
    snapshot = table.current_snapshot()
    sequence = snapshot.sequence_number or 0 if snapshot else 0
    cuts = {group: cutoff(spec.partition.grain, now, rule.after) for group, rule in spec.retention.items()}
    columns = {group: retained_columns(spec, group) for group in cuts}
    names = {group: tuple(c.name for c in mine) for group, mine in columns.items()}
    records = {group: Emptied(names[group], cut, sequence) for group, cut in cuts.items()}
    known = {group: emptied_of(table, group) for group in cuts}
    looked: list[tuple[int, DataFile, list[str]]] = []
    for spec_id, file, number in _files(table):
        ended = _ended(table, spec_id, file)
        groups = [
            group
            for group, cut in cuts.items()
            if ended is not None and ended <= cut and not _covers(known[group], names[group], ended, number)
        ]
        if groups:
            looked.append((spec_id, file, groups))

    def holds(found: tuple[int, DataFile, list[str]]) -> list[str]:
        wanted = [c for group in found[2] for c in columns[group]]
        return held_columns(table, found[1].file_path, wanted)

    with ThreadPoolExecutor(THREADS) as pool:
        held = list(pool.map(holds, looked))
    partitions: dict[tuple[int, tuple[Any, ...]], tuple[str, ...]] = {}
    for (spec_id, file, groups), names_held in zip(looked, held, strict=True):
        if names_held:
            place = spec_id, tuple(file.partition[i] for i in range(len(file.partition)))
            mine = tuple(c.name for group in groups for c in columns[group])
            partitions[place] = tuple(dict.fromkeys((*partitions.get(place, ()), *mine)))
    touched = {group for _, _, groups in looked for group in groups}
    files = [
        f
        for spec_id, f, _ in _files(table)
        if (spec_id, tuple(f.partition[i] for i in range(len(f.partition)))) in partitions
    ]
    return Due(
        partitions,
        {group: record for group, record in records.items() if group in touched},
        len(files),
        sum(f.file_size_in_bytes for f in files),
    )


def held_columns(table: Table, path: str, columns: list[Column]) -> list[str]:
    """Columns of a file that hold a value which is not what an emptied one holds, by its footer."""
    with pq.ParquetFile(table.io.new_input(path).open()) as file:
        footer, schema = file.metadata, file.schema_arrow
    ids = {
        int((schema.field(i).metadata or {}).get(b"PARQUET:field_id", -1)): schema.names[i] for i in range(len(schema))
    }
    found = []
    for column in columns:
        name = ids.get(table.schema().find_field(column.name).field_id, column.name)
        if any(_holds(chunk, column) for chunk in _chunks(footer, name)):
            found.append(column.name)
    return found


def _chunks(footer: pq.FileMetaData, name: str) -> Iterator[pq.ColumnChunkMetaData]:
    """The chunks of a column's leaf, one a row group."""
    for group in range(footer.num_row_groups):
        for leaf in range(footer.num_columns):
            chunk = footer.row_group(group).column(leaf)
            if chunk.path_in_schema.partition(".")[0] == name:
                yield chunk


def _holds(chunk: pq.ColumnChunkMetaData, column: Column) -> bool:
    counts = chunk.statistics
    if counts is None or not counts.has_null_count:
        return bool(chunk.num_values)  # a file of another tool's: written anew, it tells
    if replaced_by(column) != "default":
        return bool(counts.null_count < chunk.num_values)
    default = column.feature.default if column.feature else None
    same = counts.has_min_max and counts.min == counts.max == default
    return not same or bool(counts.null_count)


def _files(table: Table) -> Iterator[tuple[int, DataFile, int]]:
    """(partition spec id, file, sequence number) of every data file."""
    snapshot = table.current_snapshot()
    for manifest in snapshot.manifests(table.io) if snapshot else ():
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True):
            if entry.data_file.content == DataFileContent.DATA:
                number = entry.sequence_number if entry.sequence_number is not None else manifest.sequence_number
                yield manifest.partition_spec_id, entry.data_file, number


def _ended(table: Table, spec_id: int, file: DataFile) -> datetime | None:
    """When a file's period ended; None where it has none."""
    for i, part in enumerate(table.specs()[spec_id].fields):
        span = time_span(part, file.partition[i])
        if span is not None:
            return span[1]
    return None


def _covers(known: Emptied | None, columns: tuple[str, ...], ended: datetime, number: int) -> bool:
    return known is not None and known.columns == columns and ended <= known.before and number <= known.sequence
