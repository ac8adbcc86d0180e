"""The table's state once more, as a snapshot of the new schema.

Spark and Trino read a snapshot by its id with the schema of its own time. So that the newest one shows the columns of
now, an evolution adds one with the very same files.
"""

from __future__ import annotations

import uuid

from pyiceberg.manifest import write_manifest_list
from pyiceberg.table import Table
from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.snapshots import Operation, Snapshot, Summary
from pyiceberg.table.update import AddSnapshotUpdate, SetSnapshotRefUpdate, TableUpdate

EVOLVED = "reqlake.evolved"


def restated(table: Table, schema_id: int) -> tuple[TableUpdate, ...]:
    """Updates that add such a snapshot and move main to it; none for a table without snapshots."""
    head, metadata = table.current_snapshot(), table.metadata
    if head is None:
        return ()
    snapshot_id, sequence = metadata.new_snapshot_id(), metadata.next_sequence_number()
    listed = f"{table.location()}/metadata/snap-{snapshot_id}-{uuid.uuid4()}.avro"
    target = table.io.new_output(listed)
    with write_manifest_list(2, target, snapshot_id, head.snapshot_id, sequence, "deflate") as writer:
        writer.add_manifests(head.manifests(table.io))
    kept = head.summary.additional_properties if head.summary else {}
    totals = {name: value for name, value in kept.items() if name.startswith("total-")}
    snapshot = Snapshot(
        snapshot_id=snapshot_id,
        parent_snapshot_id=head.snapshot_id,
        manifest_list=listed,
        sequence_number=sequence,
        summary=Summary(Operation.REPLACE, **totals, **{EVOLVED: str(schema_id)}),
        schema_id=schema_id,
    )
    main = metadata.refs["main"]
    return (
        AddSnapshotUpdate(snapshot=snapshot),
        SetSnapshotRefUpdate(
            ref_name="main",
            type=SnapshotRefType.BRANCH,
            snapshot_id=snapshot_id,
            max_ref_age_ms=main.max_ref_age_ms,
            max_snapshot_age_ms=main.max_snapshot_age_ms,
            min_snapshots_to_keep=main.min_snapshots_to_keep,
        ),
    )
