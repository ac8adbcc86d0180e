"""Which table, view or metadata table a name in a query means, and at which snapshot."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from pyiceberg.catalog import Catalog
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from lakehouse.catalog import catalog_errors, load_table, open_catalog, table_names
from lakehouse.errors import SqlError, TableMissingError, nearest
from lakehouse.schema import FORMAT, table_spec
from lakehouse.settings import Settings
from lakehouse.sql.metadata import METADATA
from lakehouse.views import view_sql, views


@dataclass(frozen=True)
class TableName:
    """A table of the catalog; `metadata` is `snapshots` for `"t$snapshots"`, empty for the table itself."""

    table: Table
    metadata: str = ""


@dataclass(frozen=True)
class ViewName:
    """A view that the spec of a request table gives, as Trino SQL."""

    sql: str


@dataclass
class Lake:
    """The names of one catalog. Each table is loaded once, so that a query sees one state of it."""

    settings: Settings
    catalog: Catalog
    tables: dict[str, Table] = field(default_factory=dict)

    @classmethod
    def open(cls, settings: Settings) -> Lake:
        """The lake that the settings name. Raises CatalogError."""
        return cls(settings, open_catalog(settings))

    def namespaces(self) -> list[str]:
        """Every namespace, by name."""
        with catalog_errors(self.settings):
            return sorted(".".join(name) for name in self.catalog.list_namespaces())

    def table(self, identifier: str) -> Table:
        """One table by full name."""
        if identifier not in self.tables:
            self.tables[identifier] = load_table(self.catalog, identifier, self.settings)
        return self.tables[identifier]

    def find(self, name: str, namespace: str | None, catalog: str | None = None) -> TableName | ViewName:
        """What a name means. Raises SqlError that suggests the nearest name, or names both where two fit."""
        own = {self.settings.catalog.name, self.settings.catalog.trino_name or self.settings.catalog.name}
        if catalog is not None and catalog not in own:
            raise SqlError(
                f"no catalog {catalog!r}.{nearest(catalog, own)} Embedded SQL has one: {', '.join(sorted(own))}"
            )
        spaces = [namespace] if namespace else self.namespaces()
        found = [(space, hit) for space in spaces if (hit := self._find_in(space, name)) is not None]
        if len(found) > 1:
            where = " and ".join(f"{space}.{name}" for space, _ in found)
            raise SqlError(f"{name!r} is ambiguous: {where}. Write it with its namespace")
        if not found:
            raise self._unknown(name, namespace)
        return found[0][1]

    def _find_in(self, namespace: str, name: str) -> TableName | ViewName | None:
        with catalog_errors(self.settings):
            tables = {full.rpartition(".")[2]: full for full in table_names(self.catalog, namespace)}
        base, _, metadata = name.partition("$")
        if base in tables and (not metadata or metadata in METADATA):
            return TableName(self.table(tables[base]), metadata)
        for table, full in tables.items():
            dataset = table.removesuffix("_requests")
            if dataset != table and name.startswith(f"{dataset}_"):
                loaded = self.table(full)
                if FORMAT in loaded.properties:
                    spec = table_spec(loaded)
                    if name in views(spec):
                        return ViewName(view_sql(spec, name))
        return None

    def _unknown(self, name: str, namespace: str | None) -> SqlError:
        spaces = self.namespaces()
        if namespace and namespace not in spaces:
            return SqlError(
                f"no namespace {namespace!r}.{nearest(namespace, spaces)} There are {', '.join(spaces) or 'none yet'}"
            )
        base, _, metadata = name.partition("$")
        if metadata and metadata not in METADATA:
            return SqlError(f"no metadata table {name!r}.{nearest(metadata, METADATA)} There are {', '.join(METADATA)}")
        known = [n.rpartition(".")[2] for n in self.names() if not namespace or n.startswith(f"{namespace}.")]
        shown = (
            f" There are {', '.join(known)}" if known else " The catalog holds no table yet: `reqlake ingest` makes one"
        )
        return SqlError(f"no table or view {base!r}.{nearest(base, known)}{shown}")

    def names(self) -> list[str]:
        """Full names of every table and view that a query can use."""
        out: list[str] = []
        for namespace in self.namespaces():
            with catalog_errors(self.settings):
                tables = table_names(self.catalog, namespace)
            for full in tables:
                out.append(full)
                if full.endswith("_requests") and FORMAT in self.table(full).properties:
                    out += [f"{namespace}.{name}" for name in views(table_spec(self.table(full)))]
        return out


@dataclass(frozen=True)
class Pin:
    """The snapshot that a query reads: of the table that has this id, or of every table under this tag."""

    snapshot: int | None = None
    tag: str | None = None

    def choose(self, table: Table, version: int | str | datetime | None) -> Snapshot | None:
        """The snapshot of one table; None where the table is empty. Raises TableMissingError for one that is gone.

        `version` is what FOR VERSION or TIMESTAMP AS OF says in the query, and goes before the pin.
        """
        if isinstance(version, datetime):
            return self._as_of(table, version)
        if isinstance(version, int):
            return self._by_id(table, version)
        name = version if version is not None else self.tag
        if name is not None:
            snapshot = table.snapshot_by_name(name)
            if snapshot is None:
                refs = sorted(table.metadata.refs)
                there = ", ".join(refs) or "none"
                raise TableMissingError(
                    f"{_full(table)} has no tag or branch {name!r}.{nearest(name, refs)} There are {there}"
                )
            return snapshot
        if self.snapshot is not None and table.snapshot_by_id(self.snapshot) is not None:
            return table.snapshot_by_id(self.snapshot)
        return table.current_snapshot()

    def check_used(self, tables: list[Table]) -> None:
        """Raises TableMissingError when no table of the query has the pinned snapshot."""
        if self.snapshot is None or any(t.snapshot_by_id(self.snapshot) for t in tables):
            return
        names = ", ".join(sorted({_full(t) for t in tables})) or "the query, which reads no table"
        raise TableMissingError(
            f"no snapshot {self.snapshot} in {names}: it is gone (expired) or of another table. "
            f'See SELECT snapshot_id, committed_at FROM "<table>$snapshots"'
        )

    def _by_id(self, table: Table, snapshot_id: int) -> Snapshot:
        snapshot = table.snapshot_by_id(snapshot_id)
        if snapshot is None:
            known = [str(s.snapshot_id) for s in table.snapshots()][-5:]
            raise TableMissingError(
                f"{_full(table)} has no snapshot {snapshot_id}: it is gone (expired). The last are {', '.join(known)}"
            )
        return snapshot

    def _as_of(self, table: Table, at: datetime) -> Snapshot:
        millis = int(at.timestamp() * 1000)
        past = [entry for entry in table.history() if entry.timestamp_ms <= millis]
        if not past:
            raise TableMissingError(f"{_full(table)} has no snapshot as old as {at.isoformat()}")
        return self._by_id(table, past[-1].snapshot_id)


def _full(table: Table) -> str:
    return ".".join(table.name())
