"""Branches that a batch is written to before it is published: whose they are, by their names."""

from __future__ import annotations

import os
import re
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pyiceberg.table import Table

from lakehouse.processes import born, is_alive, this_host

BRANCH = re.compile(r"^audit_(?P<host>[a-z0-9]+)_(?P<pid>\d+)(?:x(?P<born>[0-9a-f]{8}))?_")
MADE = re.compile(r"_(?P<seconds>[0-9a-f]{8})[0-9a-f]{4}$")
ORPHANED = timedelta(hours=24)


@dataclass(frozen=True)
class AuditBranch:
    """A branch and its writer: a process, on this host or another (`here`), and when it was last heard of."""

    name: str
    pid: int
    born: str | None
    here: bool
    made: datetime

    @property
    def may_be_written(self) -> bool:
        """Whether the writer may still be at work: its process on this host, elsewhere one of the last day."""
        return is_alive(self.pid, self.born) if self.here else datetime.now(UTC) - self.made <= ORPHANED


def name_branch(batch_id: str) -> str:
    """A name for one try of a batch by this process; two jobs never have the same."""
    batch, pid = re.sub("[^A-Za-z0-9]", "", batch_id)[:16].lower(), os.getpid()
    return f"audit_{this_host()}_{pid}x{born(pid)}_{batch}_{int(time.time()):08x}{uuid.uuid4().hex[:4]}"


def audit_branches(table: Table) -> Iterator[AuditBranch]:
    """Every audit branch of a table."""
    for name, ref in table.metadata.refs.items():
        match = BRANCH.match(name)
        if match is not None:
            snapshot, begun = table.snapshot_by_id(ref.snapshot_id), MADE.search(name)
            # Until the writer commits, its branch points to main's snapshot of then, which may be days old.
            seconds = [snapshot.timestamp_ms / 1000] if snapshot else []
            seconds += [int(begun["seconds"], 16)] if begun else []
            made = datetime.fromtimestamp(max(seconds), UTC) if seconds else datetime.now(UTC)
            yield AuditBranch(name, int(match["pid"]), match["born"], match["host"] == this_host(), made)


def living_writers(table: Table) -> list[str]:
    """Audit branches whose writer may still be at work."""
    return [branch.name for branch in audit_branches(table) if branch.may_be_written]
