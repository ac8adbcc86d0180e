"""How old a snapshot is: not since it was made, but since another took its place.

A table that nobody wrote to for weeks has an old snapshot that jobs and readers are at work on when a compaction
replaces it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot


def outlived(table: Table, days: float) -> list[Snapshot]:
    """Snapshots that no branch or tag points to, and whose place another took so many days ago."""
    held = {ref.snapshot_id for ref in table.metadata.refs.values()}
    before_ms = (datetime.now(UTC) - timedelta(days=days)).timestamp() * 1000
    replaced = {old.snapshot_id: new.timestamp_ms for old, new in pairwise(table.metadata.snapshot_log)}
    return [
        s
        for s in table.metadata.snapshots
        if s.snapshot_id not in held and replaced.get(s.snapshot_id, s.timestamp_ms) <= before_ms
    ]
