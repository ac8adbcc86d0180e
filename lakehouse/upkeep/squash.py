"""Squash: a branch's state as one new snapshot whose manifests hold living files alone.

A commit that deletes files keeps entries of them, bounds of their values included, for as long as its snapshot lives.
After a squash and an expiry nothing speaks of them any more. Rows, files and their sequence numbers stay the same.
"""

from __future__ import annotations

import uuid

from pyiceberg.manifest import (
    ManifestContent,
    ManifestEntry,
    ManifestFile,
    ManifestWriterV2,
    write_manifest_list,
)
from pyiceberg.table import Table
from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.snapshots import Operation, Snapshot, Summary
from pyiceberg.table.update import (
    AddSnapshotUpdate,
    AssertRefSnapshotId,
    AssertTableUUID,
    RemoveSnapshotRefUpdate,
    SetPropertiesUpdate,
    SetSnapshotRefUpdate,
    TableRequirement,
    TableUpdate,
)

from lakehouse.catalog import catalog_errors
from lakehouse.settings import Settings

SQUASHED = "reqlake.squashed"


class _DeleteManifestWriter(ManifestWriterV2):
    def content(self) -> ManifestContent:
        return ManifestContent.DELETES

    @property
    def _meta(self) -> dict[str, str]:
        return super()._meta | {"content": "deletes"}


def is_squashed(table: Table, ref: str) -> bool:
    """Whether a branch's or tag's head is a squash already."""
    head = table.snapshot_by_id(table.metadata.refs[ref].snapshot_id)
    return head is not None and head.summary is not None and SQUASHED in head.summary.additional_properties


def squash(
    table: Table,
    branch: str,
    settings: Settings,
    *,
    tag: str | None = None,
    schema_id: int | None = None,
    properties: dict[str, str] | None = None,
) -> int:
    """Write the squash of a branch's head and move the branch to it; the new snapshot's id.

    With `tag`, that tag is moved to it instead and the branch is dropped. `properties` are set in the same commit, with
    the new id in the place of `{new}`; `schema_id` is what the snapshot is read with, by default as its head. Raises
    CommitFailedException where the branch has moved on meanwhile.
    """
    metadata, head_id = table.metadata, table.metadata.refs[branch].snapshot_id
    head = table.snapshot_by_id(head_id)
    assert head is not None, f"{branch} points to a snapshot that is gone"
    snapshot_id, sequence = metadata.new_snapshot_id(), metadata.next_sequence_number()
    base = f"{table.location()}/metadata/{uuid.uuid4()}"
    manifests = [
        made
        for i, manifest in enumerate(head.manifests(table.io))
        if (made := _living(table, manifest, f"{base}-m{i}.avro", snapshot_id)) is not None
    ]
    listed = f"{base}-list.avro"
    target = table.io.new_output(listed)
    with write_manifest_list(2, target, snapshot_id, head_id, sequence, "deflate") as writer:
        writer.add_manifests(manifests)
    kept = head.summary.additional_properties if head.summary else {}
    totals = {k: v for k, v in kept.items() if k.startswith(("total-", "reqlake."))}
    snapshot = Snapshot(
        snapshot_id=snapshot_id,
        parent_snapshot_id=head_id,
        manifest_list=listed,
        sequence_number=sequence,
        summary=Summary(Operation.REPLACE, **totals, **{SQUASHED: str(head_id)}),
        schema_id=next((s for s in (schema_id, head.schema_id) if s is not None), metadata.current_schema_id),
    )
    updates: tuple[TableUpdate, ...] = (AddSnapshotUpdate(snapshot=snapshot),)
    requirements: tuple[TableRequirement, ...] = (
        AssertTableUUID(uuid=metadata.table_uuid),
        AssertRefSnapshotId(ref=branch, snapshot_id=head_id),
    )
    if tag is None:
        updates += (_moved(table, branch, SnapshotRefType.BRANCH, snapshot_id),)
    else:
        updates += (
            _moved(table, tag, SnapshotRefType.TAG, snapshot_id),
            RemoveSnapshotRefUpdate(ref_name=branch),
        )
    if properties:
        told = {name: value.replace("{new}", str(snapshot_id)) for name, value in properties.items()}
        updates += (SetPropertiesUpdate(updates=told),)
    with catalog_errors(settings):
        table.catalog.commit_table(table, requirements, updates)
    table.refresh()
    return snapshot_id


def _moved(table: Table, name: str, kind: SnapshotRefType, snapshot_id: int) -> SetSnapshotRefUpdate:
    """A ref on another snapshot, with the retention that it has."""
    old = table.metadata.refs.get(name)
    return SetSnapshotRefUpdate(
        ref_name=name,
        type=kind,
        snapshot_id=snapshot_id,
        max_ref_age_ms=old.max_ref_age_ms if old else None,
        max_snapshot_age_ms=old.max_snapshot_age_ms if old else None,
        min_snapshots_to_keep=old.min_snapshots_to_keep if old else None,
    )


def _living(table: Table, manifest: ManifestFile, path: str, snapshot_id: int) -> ManifestFile | None:
    """A copy of a manifest without entries of deleted files; None where no other is left."""
    entries = manifest.fetch_manifest_entry(table.io, discard_deleted=True)
    if not entries:
        return None
    deletes = manifest.content == ManifestContent.DELETES
    make: type[ManifestWriterV2] = _DeleteManifestWriter if deletes else ManifestWriterV2
    spec, out = table.specs()[manifest.partition_spec_id], table.io.new_output(path)
    with make(spec, table.schema(), out, snapshot_id, "deflate") as writer:
        for entry in entries:
            writer.existing(_numbered(entry, manifest))
    return writer.to_manifest_file()


def _numbered(entry: ManifestEntry, manifest: ManifestFile) -> ManifestEntry:
    """An entry with the sequence numbers that an added one inherits from its manifest."""
    if entry.sequence_number is None:
        entry.sequence_number = manifest.sequence_number
    return entry
