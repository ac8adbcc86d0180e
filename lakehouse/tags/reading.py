"""Reading under a lease: what a command reads stays, whatever expires meanwhile.

A training set or another tag holds its snapshot anyway. Else the command takes a reader's lease of two hours, renews it
in the background, and lets go at its end. Where nothing can be written to the catalog it reads without, and says so.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pyiceberg.exceptions import CommitFailedException, RESTError
from pyiceberg.table import Table
from pyiceberg.table.refs import SnapshotRefType
from sqlalchemy.exc import SQLAlchemyError

from lakehouse.errors import CatalogError
from lakehouse.processes import this_host
from lakehouse.settings import Settings
from lakehouse.tags.reader_lease import ReaderLease, reader_lease
from lakehouse.tags.sets import READER, snapshot_or_current

log = logging.getLogger(__name__)
HOURS = 2.0
RENEWED = 4
"""Times within its hours that a lease is renewed."""
UNWRITABLE = (CatalogError, CommitFailedException, RESTError, SQLAlchemyError, OSError)


@contextmanager
def reading(table: Table, command: str, settings: Settings, *, snapshot_id: int | None = None) -> Iterator[int]:
    """Hold a snapshot of the table, the current one by default, while a command reads it; yields its id.

    The lease is `reader/<command>-<host>-<process>`. Raises TagError for an empty table, TableMissingError for a
    snapshot that is gone.
    """
    held = snapshot_or_current(table.refresh(), snapshot_id).snapshot_id
    if _is_pinned(table, held) or os.environ.get("RANK", "0") != "0":  # under torchrun the first process holds it
        yield held
        return
    run = re.sub(r"[^A-Za-z0-9._-]", "-", f"{command}-{this_host()}-{os.getpid()}")
    own = table.catalog.load_table(table.name())  # the lease refreshes it, the reader keeps the one that it has
    lease = reader_lease(own, run, settings, snapshot_id=held, hours=HOURS)
    try:
        holding = lease.__enter__()
    except UNWRITABLE as error:
        log.warning("reading snapshot %s without a lease, an expiry may take it away: %s", held, error)
        yield held
        return
    over = threading.Event()
    renewing = threading.Thread(target=_renew, args=(holding, over), daemon=True)
    renewing.start()
    try:
        yield held
    finally:
        over.set()
        renewing.join()
        try:
            lease.__exit__(None, None, None)
        except UNWRITABLE as error:
            log.warning("the lease reader/%s could not be dropped, it ends by itself: %s", run, error)


def _is_pinned(table: Table, snapshot_id: int) -> bool:
    """Whether a tag that is no reader's holds a snapshot."""
    return any(
        ref.snapshot_id == snapshot_id and ref.snapshot_ref_type == SnapshotRefType.TAG and not name.startswith(READER)
        for name, ref in table.metadata.refs.items()
    )


def _renew(lease: ReaderLease, over: threading.Event) -> None:
    while not over.wait(lease.hours * 3600 / RENEWED):
        try:
            lease.renew()
        except (*UNWRITABLE, ValueError) as error:  # ValueError: the snapshot is gone, by an erasure
            log.warning("the lease reader/%s could not be renewed: %s", lease.run, error)
