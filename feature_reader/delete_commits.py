"""Commits of delete files, as engines with merge-on-read leave them: PyIceberg reads these and cannot write them.

For tests and benchmarks (`feature_reader.testing`). Each data file gets a delete file of its own, in its partition.
"""

from __future__ import annotations

import json
import time
import uuid
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestWriterV2,
    write_manifest_list,
)
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation, Snapshot, Summary
from pyiceberg.table.update import AddSnapshotUpdate, AssertRefSnapshotId, SetSnapshotRefUpdate


class _DeleteManifestWriter(ManifestWriterV2):
    def content(self) -> ManifestContent:
        return ManifestContent.DELETES

    @property
    def _meta(self) -> dict[str, str]:
        return {**super()._meta, "content": "deletes"}


def delete_positions(table: Table, rows: Mapping[str, Sequence[int]], *, vectors: bool = False) -> Table:
    """Commit the deletion of row numbers by data file path: position delete files, or deletion vectors.

    Returns the table, refreshed. A vector's manifest entry is of format 2, which knows no `referenced_data_file`.
    """
    write = _vector if vectors else _position_file
    return _commit(table, {path: write(table, path, sorted(found)) for path, found in rows.items() if len(found)})


def delete_equal(table: Table, path: str) -> Table:
    """Commit an equality delete file on `user_id` for a data file's partition; its rows are of no matter."""
    target, field = _target(table), table.schema().find_field("user_id")
    with table.io.new_output(target).create(overwrite=True) as sink:
        pq.write_table(pa.table({"user_id": pa.array([0])}), sink)
    given = {"content": DataFileContent.EQUALITY_DELETES, "file_format": FileFormat.PARQUET, "record_count": 1}
    return _commit(table, {path: given | {"file_path": target, "equality_ids": [field.field_id]}})


def _target(table: Table) -> str:
    return f"{table.location()}/data/{uuid.uuid4()}-deletes"


def _position_file(table: Table, path: str, rows: list[int]) -> dict[str, Any]:
    target = _target(table) + ".parquet"
    with table.io.new_output(target).create(overwrite=True) as sink:
        pq.write_table(pa.table({"file_path": [path] * len(rows), "pos": pa.array(rows, pa.int64())}), sink)
    kind = {"content": DataFileContent.POSITION_DELETES, "file_format": FileFormat.PARQUET}
    return kind | {"file_path": target, "record_count": len(rows)}


def _vector(table: Table, path: str, rows: list[int]) -> dict[str, Any]:
    from pyroaring import BitMap

    body = b"\xd1\xd3\x39\x64" + (1).to_bytes(8, "little") + (0).to_bytes(4, "little") + BitMap(rows).serialize()
    blob = len(body).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")
    place = {"type": "deletion-vector-v1", "fields": [], "snapshot-id": -1, "sequence-number": -1}
    place |= {"offset": 4, "length": len(blob), "properties": {"referenced-data-file": path}}
    footer = json.dumps({"blobs": [place]}).encode()
    target = _target(table) + ".puffin"
    with table.io.new_output(target).create(overwrite=True) as sink:
        sink.write(b"PFA1" + blob + b"PFA1" + footer + len(footer).to_bytes(4, "little") + bytes(4) + b"PFA1")
    kind = {"content": DataFileContent.POSITION_DELETES, "file_format": FileFormat.PUFFIN}
    return kind | {"file_path": target, "record_count": len(rows)}


def _commit(table: Table, deletes: Mapping[str, dict[str, Any]]) -> Table:
    table.refresh()
    parent, metadata, io = table.current_snapshot(), table.metadata, table.io
    if parent is None:
        raise ValueError(f"{'.'.join(table.name())} has no rows to delete")
    files = {task.file.file_path: task.file for task in table.scan().plan_files()}
    number, folder = uuid.uuid4().int >> 65, f"{table.location()}/metadata"
    manifests = list(parent.manifests(io))
    for spec_id in sorted({files[path].spec_id for path in deletes}):
        output = io.new_output(f"{folder}/{uuid.uuid4()}-deletes.avro")
        spec = metadata.specs()[spec_id]
        with _DeleteManifestWriter(spec, table.schema(), output, number, "null") as writer:
            for path, given in deletes.items():
                if files[path].spec_id != spec_id:
                    continue
                size = len(io.new_input(given["file_path"]))
                file = DataFile.from_args(**given, partition=files[path].partition, file_size_in_bytes=size)
                file.spec_id = spec_id
                entry = ManifestEntry.from_args(
                    status=ManifestEntryStatus.ADDED, snapshot_id=number, sequence_number=None, data_file=file
                )
                writer.add_entry(entry)
        manifests.append(writer.to_manifest_file())
    sequence, listed = metadata.next_sequence_number(), f"{folder}/snap-{number}-{uuid.uuid4()}.avro"
    with write_manifest_list(2, io.new_output(listed), number, parent.snapshot_id, sequence, "null") as lists:
        lists.add_manifests(manifests)
    snapshot = Snapshot(
        snapshot_id=number,
        parent_snapshot_id=parent.snapshot_id,
        sequence_number=sequence,
        timestamp_ms=max(int(time.time() * 1000), parent.timestamp_ms + 1),
        manifest_list=listed,
        summary=Summary(Operation.DELETE),
        schema_id=metadata.current_schema_id,
    )
    moved = SetSnapshotRefUpdate(  # type: ignore[call-arg]  # retention has defaults
        ref_name="main", type="branch", snapshot_id=number
    )
    unmoved = AssertRefSnapshotId(ref="main", snapshot_id=parent.snapshot_id)
    table.catalog.commit_table(table, (unmoved,), (AddSnapshotUpdate(snapshot=snapshot), moved))
    return table.refresh()
