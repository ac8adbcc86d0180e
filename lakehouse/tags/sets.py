"""A training set is a named map {table: (uuid, snapshot, schema)} over the request table and every table it needs.

Each of those tables gets an Iceberg tag of the set's name, so that no expiry takes its snapshot; the request table's is
set last, together with the map (a property), and is the commit: a name that only other tables carry is no set, and
making or dropping it again clears what was left.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table
from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.update.snapshot import ManageSnapshots

from lakehouse.catalog import catalog_errors, table_names
from lakehouse.errors import TableMissingError, TagError, nearest
from lakehouse.schema import open_request_table
from lakehouse.settings import Settings
from lakehouse.spec import DatasetSpec

MAP, SUCCESSOR = "reqlake.tag.", "reqlake.successor."
READER = "reader/"
"""Tags below this are leases of running readers: they pin a snapshot and are no training sets."""
NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
NEEDED = ("events", "ids")
NEW = "{new}"
"""Stands for a snapshot id that is known only when it is written."""
ATTEMPTS = 5


@dataclass(frozen=True)
class Pinned:
    """One table of a set."""

    uuid: str
    snapshot_id: int
    schema_id: int


@dataclass(frozen=True)
class TrainingSet:
    """A named set: its tables, when it was made, and requests and bytes of its request table.

    `rule` is the pattern of the rule that made it (settings, `maintenance.tags`); None for one that was made by hand.
    """

    name: str
    tables: dict[str, Pinned]
    created: datetime
    requests: int | None
    file_bytes: int | None
    rule: str | None = None

    def snapshot_of(self, table: str) -> int:
        """The snapshot of one table."""
        return self.tables[table].snapshot_id


def create_tag(
    catalog: Catalog,
    spec: DatasetSpec,
    settings: Settings,
    name: str,
    *,
    snapshot_id: int | None = None,
    rule: str | None = None,
    created: datetime | None = None,
) -> TrainingSet:
    """Pin the tables' current snapshots (or one of the request table's) under a name; the same again changes nothing.

    `rule` is noted in the set; `created`, by default now, is the time that it says it was made at.
    Raises TagError for a bad name, one that names another snapshot, or an empty table; TableMissingError.
    """
    if not NAME.match(name):
        raise TagError(f"{name!r} cannot name a training set: letters, digits, '.', '_' and '-', at most 100")
    requests = open_request_table(catalog, spec, settings)
    found = snapshot_or_current(requests, snapshot_id)
    known = requests.metadata.refs.get(name)
    if known is not None:
        if known.snapshot_ref_type == SnapshotRefType.TAG and known.snapshot_id == found.snapshot_id:
            return _set_of(requests, name)
        raise TagError(
            f"{spec.table()} has a {known.snapshot_ref_type.value} {name!r} on snapshot {known.snapshot_id} already: "
            f"choose another name, or `reqlake tag drop {spec.name} {name}` first"
        )
    tables: dict[str, Pinned] = {}
    for table in _needed(catalog, spec, settings):
        current = table.current_snapshot()
        if current is not None:
            set_tag(table, name, current.snapshot_id, settings, {})
            tables[_full_name(table)] = _pinned(table, current)
    tables[spec.table()] = _pinned(requests, found)
    told = {"tables": {k: asdict(v) for k, v in tables.items()}, "created": (created or datetime.now(UTC)).isoformat()}
    text = json.dumps(told | ({"rule": rule} if rule else {}), separators=(",", ":"))
    set_tag(requests, name, found.snapshot_id, settings, {MAP + name: text})
    return _set_of(requests, name)


def list_tags(catalog: Catalog, spec: DatasetSpec, settings: Settings) -> list[TrainingSet]:
    """Every training set, oldest first. Tags that were made by other tools count; leases of readers do not."""
    requests = open_request_table(catalog, spec, settings)
    return sorted((_set_of(requests, name) for name in _tag_names(requests)), key=lambda s: (s.created, s.name))


def tag_of(catalog: Catalog, spec: DatasetSpec, settings: Settings, name: str) -> TrainingSet:
    """One training set. Raises TableMissingError that suggests the nearest name."""
    requests = open_request_table(catalog, spec, settings)
    if name not in _tag_names(requests):
        hint = nearest(name, _tag_names(requests))
        raise TableMissingError(f"{spec.table()} has no tag {name!r}.{hint} `reqlake tag list {spec.name}` lists them")
    return _set_of(requests, name)


def drop_tag(catalog: Catalog, spec: DatasetSpec, settings: Settings, name: str) -> TrainingSet | None:
    """Drop a set: from the request table first, so that no half of it counts. None where only leftovers were there.

    Raises TableMissingError where no table carries the name.
    """
    requests = open_request_table(catalog, spec, settings)
    dropped = _set_of(requests, name) if name in _tag_names(requests) else None
    if dropped is not None:
        remove_tag(requests, name, settings)
    leftovers = [t for t in _needed(catalog, spec, settings) if name in t.metadata.refs]
    for table in leftovers:
        remove_tag(table, name, settings)
    if dropped is None and not leftovers:
        tag_of(catalog, spec, settings, name)
    return dropped


def successor(requests: Table, snapshot_id: int) -> int | None:
    """The snapshot that holds what is left of one that is gone (erasure, rebucket); follows several."""
    found = None
    while (text := requests.properties.get(f"{SUCCESSOR}{snapshot_id}")) is not None:
        found = snapshot_id = int(text)
    return found


def snapshot_or_current(table: Table, snapshot_id: int | None) -> Snapshot:
    """A table's snapshot by id, else its current one. Raises TableMissingError with the successor of an erased one."""
    if snapshot_id is None:
        current = table.current_snapshot()
        if current is None:
            raise TagError(f"{_full_name(table)} has no snapshot yet: ingest something first (`reqlake ingest`)")
        return current
    found = table.snapshot_by_id(snapshot_id)
    if found is None:
        later = successor(table, snapshot_id)
        why = "users were erased, or the table was laid out anew"
        hint = f" Snapshot {later} holds what is left of it ({why})" if later else ""
        raise TableMissingError(f"{_full_name(table)} has no snapshot {snapshot_id} (any more).{hint}")
    return found


def retag_properties(table: Table, name: str, *, replaced: int) -> dict[str, str]:
    """What a table has to say of a set whose snapshot is replaced; `{new}` stands for the new snapshot's id."""
    changes = {f"{SUCCESSOR}{replaced}": NEW}
    text = table.properties.get(MAP + name)
    if text is not None:
        told, mine = json.loads(text), str(table.metadata.table_uuid)
        for entry in told["tables"].values():  # by UUID: the table of before a rebucket has another name than it says
            if entry["uuid"] == mine:
                entry["snapshot_id"] = NEW
        changes[MAP + name] = json.dumps(told, separators=(",", ":")).replace(f'"{NEW}"', NEW)
    return changes


def _tag_names(table: Table) -> list[str]:
    refs = table.metadata.refs.items()
    return [n for n, ref in refs if ref.snapshot_ref_type == SnapshotRefType.TAG and not n.startswith(READER)]


def _set_of(requests: Table, name: str) -> TrainingSet:
    snapshot_id = requests.metadata.refs[name].snapshot_id
    snapshot = requests.snapshot_by_id(snapshot_id)
    summary = snapshot.summary.additional_properties if snapshot and snapshot.summary else {}
    told = json.loads(requests.properties.get(MAP + name, "{}"))
    tables = {k: Pinned(**v) for k, v in told.get("tables", {}).items()}
    if snapshot is not None:
        tables[_full_name(requests)] = _pinned(requests, snapshot)
    made = datetime.fromtimestamp((snapshot.timestamp_ms if snapshot else 0) / 1000, UTC)
    return TrainingSet(
        name,
        tables,
        datetime.fromisoformat(told["created"]) if "created" in told else made,
        int(summary["total-records"]) if "total-records" in summary else None,
        int(summary["total-files-size"]) if "total-files-size" in summary else None,
        told.get("rule"),
    )


def _pinned(table: Table, snapshot: Snapshot) -> Pinned:
    schema = snapshot.schema_id if snapshot.schema_id is not None else table.schema().schema_id
    return Pinned(str(table.metadata.table_uuid), snapshot.snapshot_id, schema)


def _needed(catalog: Catalog, spec: DatasetSpec, settings: Settings) -> list[Table]:
    """Tables beside the request table that a reader of it needs, those that exist."""
    wanted = [f"{spec.namespace}.{spec.name}_{kind}" for kind in NEEDED]
    with catalog_errors(settings):
        there = set(table_names(catalog, spec.namespace))
        return [catalog.load_table(name) for name in wanted if name in there]


def _full_name(table: Table) -> str:
    return ".".join(table.name())


def set_tag(table: Table, name: str, snapshot_id: int, settings: Settings, properties: dict[str, str]) -> None:
    """Set a tag and properties in one commit; a commit that another writer overtook is made again."""
    for attempt in range(ATTEMPTS):
        try:
            with catalog_errors(settings), table.transaction() as change:
                if properties:
                    change.set_properties(properties)
                with ManageSnapshots(change) as refs:
                    refs.create_tag(snapshot_id, name)
        except CommitFailedException:
            if attempt == ATTEMPTS - 1:
                raise
            table.refresh()
        else:
            table.refresh()
            return


def remove_tag(table: Table, name: str, settings: Settings, properties: tuple[str, ...] = ()) -> None:
    """Remove a tag, what the table says of it, and more properties, in one commit; anew where another overtook it."""
    for attempt in range(ATTEMPTS):
        gone = [p for p in (MAP + name, *properties) if p in table.properties]
        try:
            with catalog_errors(settings), table.transaction() as change:
                with ManageSnapshots(change) as refs:
                    refs.remove_tag(name)
                if gone:
                    change.remove_properties(*gone)
        except CommitFailedException:
            if attempt == ATTEMPTS - 1:
                raise
            table.refresh()
            if name not in table.metadata.refs:
                return
        else:
            table.refresh()
            return
