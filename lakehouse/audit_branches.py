"""Branches that a batch is written to before it is published: whose they are, by their names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pyiceberg.table import Table

from lakehouse.processes import is_alive, this_host

BRANCH = re.compile(r"^audit_(?P<host>[a-z0-9]+)_(?P<pid>\d+)_")
ORPHANED = timedelta(hours=24)


@dataclass(frozen=True)
class AuditBranch:
    """A branch and its writer: a process, on this host or another (`here`), and when its last snapshot was made."""

    name: str
    pid: int
    here: bool
    made: datetime

    @property
    def may_be_written(self) -> bool:
        """Whether the writer may still be at work: its process on this host, elsewhere one of the last day."""
        return is_alive(self.pid) if self.here else datetime.now(UTC) - self.made <= ORPHANED


def audit_branches(table: Table) -> Iterator[AuditBranch]:
    """Every audit branch of a table."""
    for name, ref in table.metadata.refs.items():
        match = BRANCH.match(name)
        if match is not None:
            snapshot = table.snapshot_by_id(ref.snapshot_id)
            made = datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC) if snapshot else datetime.now(UTC)
            yield AuditBranch(name, int(match["pid"]), match["host"] == this_host(), made)


def living_writers(table: Table) -> list[str]:
    """Audit branches whose writer may still be at work."""
    return [branch.name for branch in audit_branches(table) if branch.may_be_written]
