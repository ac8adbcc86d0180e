"""A reader's lease: a tag with a short life, so that no expiry pulls away the snapshot that a running job reads.

The tag is `reader/<run>`; until when it holds stands in a table property, since Iceberg counts a tag's age from its
snapshot's time, which may lie long ago. A reader that dies leaves a lease that the next expiry after its end drops.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pyiceberg.table import Table

from lakehouse.errors import TagError
from lakehouse.settings import Settings
from lakehouse.tags.sets import READER, remove_tag, set_tag, snapshot_or_current

UNTIL = "reqlake.reader-until."
HOURS = 12.0
RUN = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")


class ReaderLease:
    """A snapshot that is held for a run; `renew` from time to time, well within its hours."""

    def __init__(self, table: Table, run: str, snapshot_id: int, settings: Settings, hours: float) -> None:
        self.table, self.run, self.snapshot_id, self.settings, self.hours = table, run, snapshot_id, settings, hours

    def renew(self) -> None:
        """Hold on for as many hours again."""
        until = {UNTIL + self.run: str(time.time() + self.hours * 3600)}
        set_tag(self.table.refresh(), READER + self.run, self.snapshot_id, self.settings, until)

    def release(self) -> None:
        """Let go; twice is once."""
        if READER + self.run in self.table.refresh().metadata.refs:
            remove_tag(self.table, READER + self.run, self.settings, (UNTIL + self.run,))


@contextmanager
def reader_lease(
    table: Table, run: str, settings: Settings, *, snapshot_id: int | None = None, hours: float = HOURS
) -> Iterator[ReaderLease]:
    """Hold a snapshot, the current one by default, while a run reads it. One process of a run takes it.

    Raises TagError for a run's name that cannot be a tag's and for a run that holds another snapshot already,
    TableMissingError for a snapshot that is gone.
    """
    if not RUN.match(run):
        raise TagError(f"{run!r} cannot name a reader's lease: letters, digits, '.', '_' and '-', at most 100")
    snapshot = snapshot_or_current(table.refresh(), snapshot_id)
    known = table.metadata.refs.get(READER + run)
    if known is not None and known.snapshot_id != snapshot.snapshot_id and run not in _ended(table):
        raise TagError(f"the run {run!r} reads snapshot {known.snapshot_id} already: give this one another name")
    lease = ReaderLease(table, run, snapshot.snapshot_id, settings, hours)
    lease.renew()
    try:
        yield lease
    finally:
        lease.release()


def drop_ended_leases(table: Table, settings: Settings) -> list[str]:
    """Drop the leases whose time is over; their runs."""
    ended = _ended(table.refresh())
    for run in ended:
        remove_tag(table, READER + run, settings, (UNTIL + run,))
    return ended


def _ended(table: Table) -> list[str]:
    runs = [name.removeprefix(READER) for name in table.metadata.refs if name.startswith(READER)]
    now = time.time()
    return [run for run in runs if float(table.properties.get(UNTIL + run, "inf")) < now]
