"""Commit delete files to an Iceberg table without Spark: PyIceberg reads them, but writes none."""

from __future__ import annotations

import itertools
import uuid

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
from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.snapshots import Operation, Snapshot, Summary
from pyiceberg.table.update import AddSnapshotUpdate, SetSnapshotRefUpdate
from pyiceberg.typedef import Record

from lakehouse.catalog import local_path

PATH_ID, POS_ID = 2147483546, 2147483545  # reserved by the Iceberg spec


class _DeleteManifestWriter(ManifestWriterV2):
    def content(self) -> ManifestContent:
        return ManifestContent.DELETES

    @property
    def _meta(self) -> dict[str, str]:
        return super()._meta | {"content": "deletes"}


def delete_positions(table: Table, rows: dict[str, list[int]], *, equality: bool = False) -> None:
    """Delete rows of data files (location -> row numbers) of an unpartitioned or one-partition table.

    With `equality`, the file is declared an equality delete on the first field (to see it refused).
    """
    pairs = sorted((path, pos) for path, positions in rows.items() for pos in positions)
    field = lambda name, kind, i: pa.field(name, kind, False, {b"PARQUET:field_id": str(i).encode()})  # noqa: E731
    schema = pa.schema([field("file_path", pa.string(), PATH_ID), field("pos", pa.int64(), POS_ID)])
    location = f"{table.location()}/data/deletes-{uuid.uuid4()}.parquet"
    columns = list(zip(*pairs, strict=True))
    with table.io.new_output(location).create() as target:
        pq.write_table(pa.table([pa.array(c) for c in columns], schema=schema), target)
    content = DataFileContent.EQUALITY_DELETES if equality else DataFileContent.POSITION_DELETES
    paths = {local_path(path) for path in rows}
    partitions = [t.file.partition for t in table.scan().plan_files() if local_path(t.file.file_path) in paths]
    file = DataFile.from_args(
        content=content,
        file_path=location,
        file_format=FileFormat.PARQUET,
        partition=partitions[0] if partitions else Record(),
        record_count=len(pairs),
        file_size_in_bytes=len(table.io.new_input(location)),
        equality_ids=[1] if equality else None,
        spec_id=table.spec().spec_id,
    )
    _commit(table, file)


def _commit(table: Table, file: DataFile) -> None:
    metadata, parent = table.metadata, table.current_snapshot()
    assert parent is not None
    snapshot_id = metadata.new_snapshot_id()
    base = f"{table.location()}/metadata/{uuid.uuid4()}"
    out = table.io.new_output(f"{base}-m0.avro")
    with _DeleteManifestWriter(table.spec(), table.schema(), out, snapshot_id, "deflate") as writer:
        writer.add_entry(
            ManifestEntry.from_args(status=ManifestEntryStatus.ADDED, snapshot_id=snapshot_id, data_file=file)
        )
    sequence = metadata.next_sequence_number()
    listed = f"{base}-list.avro"
    target = table.io.new_output(listed)
    with write_manifest_list(2, target, snapshot_id, parent.snapshot_id, sequence, "deflate") as manifests:
        manifests.add_manifests(list(itertools.chain([writer.to_manifest_file()], parent.manifests(table.io))))
    totals = {
        k: v
        for k, v in (parent.summary.additional_properties if parent.summary else {}).items()
        if k.startswith("total")
    }
    snapshot = Snapshot(
        snapshot_id=snapshot_id,
        parent_snapshot_id=parent.snapshot_id,
        manifest_list=listed,
        sequence_number=sequence,
        summary=Summary(Operation.OVERWRITE, **totals),
        schema_id=metadata.current_schema_id,
    )
    ref = SetSnapshotRefUpdate(ref_name="main", type=SnapshotRefType.BRANCH, snapshot_id=snapshot_id)
    with table.transaction() as transaction:
        transaction._apply((AddSnapshotUpdate(snapshot=snapshot), ref), ())
    table.refresh()
    assert table.io.new_input(listed).exists()
