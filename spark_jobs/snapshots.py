"""Which snapshots of an Iceberg table a batch takes: those since the last.

A snapshot that rewrote files (compaction) changed no row and is passed over. One that deleted or overwrote rows cannot
be followed row by row: a request table has no row for what is gone, and of a changed row only its ranks could tell the
newer. Such a range is refused, or its requests are made anew (spark_jobs/reingest.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation, Snapshot

from spark_jobs.errors import BatchRefusedError

HARMLESS = (Operation.APPEND, Operation.REPLACE)


@dataclass(frozen=True)
class Span:
    """Snapshots after `after` (None: the whole table) up to `to`, of the table with this uuid."""

    uuid: str
    after: int | None
    to: int

    @property
    def member(self) -> str:
        """Its identity in the ledger."""
        return f"{self.uuid}:{self.after or 0}:{self.to}"


def spans(
    table: Table,
    after: int | None,
    to: int | None,
    members: set[str],
    given: set[str] | None,
    *,
    changes: bool = False,
) -> list[Span]:
    """What to take, one span; none for a table without a snapshot. The last that was taken, where nothing is new.

    `members` are the ledger's, `given` those of the batch whose name was given, where it is published: asked for
    again without a range, it is its own. `changes`: a span may hold more than appends. Raises BatchRefusedError.
    """
    name, uuid = ".".join(table.name()), str(table.metadata.table_uuid)
    done = parsed(members, uuid)
    mine = parsed(given or set(), uuid)
    if mine and after is None and to in (None, mine[-1].to):
        return mine
    current = table.current_snapshot()
    if to is None:
        if current is None:
            return []
        to = current.snapshot_id
    chain = _ancestors(table, to)
    if not chain:
        raise BatchRefusedError(f"{name} has no snapshot {to}: it has expired, or never was")
    if after == 0:
        return [Span(uuid, None, to)]
    last = next((span for snapshot in chain for span in done if span.to == snapshot), None)
    if after is None and done and last is None:
        raise BatchRefusedError(
            f"of {name} snapshots were ingested, but none of those up to {to}: they expired, or the table was rolled "
            f"back. Give --from-snapshot with the snapshot to go on after, or 0 to read the whole table: rows that are "
            f"known are counted as duplicates"
        )
    if after is None:
        if last is None:
            return [Span(uuid, None, to)]
        after = last.to
    if after not in chain:
        raise BatchRefusedError(
            f"snapshot {after} of {name} is none of those before {to}: it has expired, or never was"
        )
    between = chain[: chain.index(after)]
    if not between:
        return [last] if last is not None else []
    wanted = _new(table, Span(uuid, after, to), between, chain, done)
    if not changes and not set(wanted) <= set(done):
        _refuse_changes(table, between)
    return wanted


def _new(table: Table, wanted: Span, between: list[int], chain: list[int], done: list[Span]) -> list[Span]:
    name = ".".join(table.name())
    taken = {span: [s for s in _covered(span, chain) if s in between] for span in done}
    seen = {snapshot for snapshots in taken.values() for snapshot in snapshots}
    if seen.issuperset(between):
        return [span for span, snapshots in taken.items() if snapshots]
    if seen:
        newest = next(snapshot for snapshot in between if snapshot in seen)
        raise BatchRefusedError(
            f"{len(seen)} of the {len(between)} snapshots of {name} after {wanted.after} up to {wanted.to} were "
            f"ingested before: give --from-snapshot {newest}, or leave it out"
        )
    return [wanted]


def _refuse_changes(table: Table, between: list[int]) -> None:
    """Raises BatchRefusedError for the newest snapshot that is no append."""
    for snapshot_id in between:
        snapshot = table.snapshot_by_id(snapshot_id)
        operation = _operation(snapshot)
        if operation not in HARMLESS:
            says = operation.value if operation else "operation without a name"
            raise BatchRefusedError(
                f"snapshot {snapshot_id} of {'.'.join(table.name())} is a{'n' if says[0] in 'aeio' else ''} {says}, "
                f"and a range may hold appends alone: rows that it changed or removed cannot be followed. Take the "
                f"requests that it touched anew (--on-change reingest); or ingest up to the one before it "
                f"(--to-snapshot), erase or backfill what it changed, and go on after it (--from-snapshot "
                f"{snapshot_id})"
            )


def writers(table: Table, span: Span) -> list[Snapshot]:
    """The snapshots of a span that brought, changed or removed rows; none for a whole table."""
    if span.after is None:
        return []
    chain = _ancestors(table, span.to)
    found = [table.snapshot_by_id(snapshot_id) for snapshot_id in _covered(span, chain)]
    return [s for s in found if s is not None and _operation(s) != Operation.REPLACE]


def changed(table: Table, span: Span) -> bool:
    """Whether a span holds more than appends."""
    return any(_operation(snapshot) not in HARMLESS for snapshot in writers(table, span))


def newest(table: Table, found: list[Span]) -> Span:
    """The span that ends last, of those whose end has not expired."""
    ends = {snapshot.snapshot_id: snapshot.timestamp_ms for snapshot in table.metadata.snapshots}
    return max(found, key=lambda span: ends.get(span.to, 0))


def _operation(snapshot: Snapshot | None) -> Operation | None:
    return snapshot.summary.operation if snapshot and snapshot.summary else None


def _covered(span: Span, chain: list[int]) -> list[int]:
    """The snapshots of a chain, newest first, that a span holds."""
    if span.to not in chain:
        return []
    end = chain.index(span.after) if span.after in chain else len(chain)
    return chain[chain.index(span.to) : end]


def _ancestors(table: Table, snapshot_id: int) -> list[int]:
    """A snapshot and those before it, newest first, as far as they have not expired."""
    chain: list[int] = []
    snapshot = table.snapshot_by_id(snapshot_id)
    while snapshot is not None:
        chain.append(snapshot.snapshot_id)
        parent = snapshot.parent_snapshot_id
        snapshot = table.snapshot_by_id(parent) if parent is not None else None
    return chain


def parsed(members: set[str], uuid: str) -> list[Span]:
    """The spans of one table among the ledger's members."""
    found = []
    for member in sorted(members):
        head, _, rest = member.partition(":")
        if head == uuid:
            after, _, to = rest.partition(":")
            found.append(Span(uuid, int(after) or None, int(to)))
    return found
