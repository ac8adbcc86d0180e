"""Branches that a batch is written to before it is published: whose they are, by their names."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from pyiceberg.table import Table

from lakehouse.processes import is_alive, this_host

BRANCH = re.compile(r"^audit_(?P<host>[a-z0-9]+)_(?P<pid>\d+)_")
ORPHANED = timedelta(hours=24)


def living_writers(table: Table) -> list[str]:
    """Audit branches whose writer may still be at work: its process on this host, elsewhere one of the last day."""
    living = []
    for branch, ref in table.metadata.refs.items():
        match = BRANCH.match(branch)
        if match is None:
            continue
        snapshot = table.snapshot_by_id(ref.snapshot_id)
        made = datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC) if snapshot else datetime.now(UTC)
        here = match["host"] == this_host()
        if is_alive(int(match["pid"])) if here else datetime.now(UTC) - made <= ORPHANED:
            living.append(branch)
    return living
