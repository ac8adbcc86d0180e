"""The maintenance lease: one job at a time compacts, expires, erases or backfills a dataset.

The lease is a table without rows, `<namespace>.<dataset>_lease`: making one is atomic in every catalog, while a
property or a tag that two jobs set at once would be both of theirs. It names its holder, so that the next job can tell
a killed holder's lease from a running one's: on this host no such process, elsewhere past its time.

Jobs that hold a lease go by age (of snapshots, files, partitions, leases), so a clock that is wrong would lose what is
young. Each compares its clock with the storage's, by a file that it writes there.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import timedelta

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError, TableAlreadyExistsError
from pyiceberg.schema import Schema
from pyiceberg.types import BooleanType, NestedField

from lakehouse.catalog import catalog_errors, ensure_namespace, table_names
from lakehouse.errors import LeaseError
from lakehouse.processes import born, is_alive, this_host
from lakehouse.settings import Settings
from lakehouse.spec import DatasetSpec
from lakehouse.upkeep.files import now_at

HOLDER = "reqlake.lease"
SECONDS = 6 * 3600
BESIDE = frozenset({"compact", "expire", "orphans", "retention", "column retention", "tags", "backfill", "replay"})
"""Jobs that ingest and merge run beside: each commits on what it read, and starts again where that was changed."""
ATTEMPTS = 3
SKEW = 60.0  # seconds that a clock may be wrong: NTP keeps it within one, and no age in the settings is as short


@dataclass(frozen=True)
class Holder:
    """Who holds a dataset: the job, its host and process, until when (Unix seconds), and a name of its own.

    `born` tells the process from a later one of the same pid.
    """

    job: str
    host: str
    pid: int
    until: float
    nonce: str
    born: str | None = None

    @property
    def gone(self) -> bool:
        """Whether the holder has died, as far as can be told from here."""
        if self.host == this_host():
            return not is_alive(self.pid, self.born)
        return time.time() > self.until


class Lease:
    """A lease that is held; `renew` puts off its end."""

    def __init__(self, catalog: Catalog, name: str, holder: Holder, settings: Settings) -> None:
        self.catalog, self.name, self.holder, self.settings = catalog, name, holder, settings

    def renew(self) -> None:
        """Hold on for another six hours. Raises LeaseError where somebody has taken the lease away."""
        held = _holder(self.catalog, self.name, self.settings)
        if held is None or held.nonce != self.holder.nonce:
            raise LeaseError(f"the lease {self.name} of this {self.holder.job} was taken by {held}: run it again")
        self.holder = replace(self.holder, until=time.time() + SECONDS)
        with catalog_errors(self.settings), self.catalog.load_table(self.name).transaction() as change:
            change.set_properties({HOLDER: json.dumps(asdict(self.holder))})


def lease_name(spec: DatasetSpec) -> str:
    """`<namespace>.<dataset>_lease`."""
    return f"{spec.namespace}.{spec.name}_lease"


def held_by(catalog: Catalog, spec: DatasetSpec, settings: Settings) -> Holder | None:
    """Who holds the dataset now, if anybody who is still there."""
    holder = _holder(catalog, lease_name(spec), settings)
    return None if holder is None or holder.gone else holder


def refuse_beside(catalog: Catalog, spec: DatasetSpec, settings: Settings, writer: str) -> None:
    """Raises LeaseError where a job holds the dataset that no writer may run beside (erase, rebucket).

    A writer asks once its audit branch is there: such a job takes the lease and then looks for branches, so that one of
    the two sees the other.
    """
    held = held_by(catalog, spec, settings)
    if held is not None and held.job not in BESIDE:
        raise LeaseError(
            f"{held.job} runs on {spec.name} (process {held.pid} on {held.host}), and no {writer} may run beside it: "
            f"nothing was published, run this again when it has ended"
        )


@contextmanager
def maintenance_lease(catalog: Catalog, spec: DatasetSpec, settings: Settings, job: str) -> Iterator[Lease]:
    """Hold the dataset while a job runs. Raises LeaseError that names who holds it already."""
    ensure_namespace(catalog, spec.namespace, settings)
    mine = Holder(job, this_host(), os.getpid(), time.time() + SECONDS, uuid.uuid4().hex, born(os.getpid()))
    name = lease_name(spec)
    _acquire(catalog, name, mine, settings)
    try:
        _refuse_wrong_clock(catalog, name, settings)
        yield Lease(catalog, name, mine, settings)
    finally:
        held = _holder(catalog, name, settings)
        if held is not None and held.nonce == mine.nonce:
            _remove(catalog, name, settings)


def _acquire(catalog: Catalog, name: str, mine: Holder, settings: Settings) -> None:
    schema = Schema(NestedField(1, "held", BooleanType(), required=False))
    for _ in range(ATTEMPTS):
        held = _holder(catalog, name, settings)
        if held is None:
            try:
                with catalog_errors(settings):
                    catalog.create_table(name, schema, properties={HOLDER: json.dumps(asdict(mine))})
            except TableAlreadyExistsError:
                continue
            return
        if not held.gone:
            raise LeaseError(
                f"{held.job} runs on this dataset (process {held.pid} on {held.host}): run this again when it has "
                f"ended. A holder that died on another host is passed over after six hours, or at once by dropping "
                f"the table {name}"
            )
        if held.host != this_host():  # it is past its time by a clock that may be wrong
            _refuse_wrong_clock(catalog, name, settings)
        _take_away(catalog, name, held, settings)
    raise LeaseError(f"the lease {name} changes hands faster than it can be taken: run this again")


def _take_away(catalog: Catalog, name: str, dead: Holder, settings: Settings) -> None:
    """Remove a dead holder's lease. It is renamed first, so that of two who try only one succeeds."""
    aside = f"{name}_{dead.nonce[:12]}"
    try:
        with catalog_errors(settings):
            catalog.rename_table(name, aside)
    except (NoSuchTableError, TableAlreadyExistsError):
        return  # somebody else was first
    moved = _holder(catalog, aside, settings)
    if moved is not None and moved.nonce != dead.nonce:  # a new holder came between our look and our rename
        with catalog_errors(settings):
            catalog.rename_table(aside, name)
        return
    _remove(catalog, aside, settings)


def drop_left_aside(catalog: Catalog, spec: DatasetSpec, settings: Settings) -> None:
    """Remove dead leases that somebody has renamed, and then died as well. For who holds the lease."""
    mine = lease_name(spec)
    for name in table_names(catalog, spec.namespace):
        holder = _holder(catalog, name, settings) if name.startswith(f"{mine}_") else None
        if holder is not None and holder.gone:
            _remove(catalog, name, settings)


def _refuse_wrong_clock(catalog: Catalog, name: str, settings: Settings) -> None:
    """Raises LeaseError where this machine's clock is not the storage's."""
    try:
        with catalog_errors(settings):
            table = catalog.load_table(name)
    except NoSuchTableError:
        return  # its holder has let go
    ahead = time.time() - now_at(table.io, table.location()).timestamp()
    if abs(ahead) > SKEW:
        by = f"{timedelta(seconds=round(abs(ahead)))} {'ahead of' if ahead > 0 else 'behind'}"
        raise LeaseError(
            f"the clock of this machine is {by} that of {table.location()}: what goes by age would go too early, or "
            f"never. Set it (NTP) and run this again; nothing was done"
        )


def _remove(catalog: Catalog, name: str, settings: Settings) -> None:
    try:
        with catalog_errors(settings):
            catalog.purge_table(name)
    except NoSuchTableError:
        return


def _holder(catalog: Catalog, name: str, settings: Settings) -> Holder | None:
    try:
        with catalog_errors(settings):
            return Holder(**json.loads(catalog.load_table(name).properties[HOLDER]))
    except (NoSuchTableError, KeyError):
        return None
