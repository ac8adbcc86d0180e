"""Run Trino SQL on a Trino server, with the same names, pins, results and errors as the embedded engine.

The query is sent as it was written. What is changed is spliced into its text where a table's name stands: its
namespace, if the query leaves it out, and the version that a pin asks for. A view has no versions in Trino, so under a
pin its own query takes its place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import pyarrow as pa
import sqlglot
from sqlglot import exp
from sqlglot.errors import OptimizeError
from sqlglot.optimizer.scope import traverse_scope

from lakehouse.errors import ReqlakeError, SqlError, TableMissingError, nearest
from lakehouse.settings import Settings
from lakehouse.sql.client import Client, connected
from lakehouse.sql.dialect import LakeTrino, read_query
from lakehouse.sql.names import Pin
from lakehouse.sql.server_types import arrow_type, batch_of

UNKNOWN_COLUMN = re.compile(r"Column '([^']+)' cannot be resolved")
HIDDEN = ("information_schema", "system")


@contextmanager
def stream(settings: Settings, sql: str, pin: Pin, batch_rows: int) -> Iterator[pa.RecordBatchReader]:
    """The rows as a reader of Arrow batches. Raises SqlError, TableMissingError, ServerError."""
    with connected(settings) as client:
        query = _Query(client, settings, pin)
        sent = query.written(sql)
        with query.hints():
            cursor = client.execute(sent)
        schema = pa.schema([(column[0], arrow_type(column[1])) for column in cursor.description or []])

        def batches() -> Iterator[pa.RecordBatch]:
            while True:
                with client.errors():
                    rows = cursor.fetchmany(batch_rows)
                if not rows:
                    return
                yield batch_of(schema, rows)

        try:
            yield pa.RecordBatchReader.from_batches(schema, batches())
        finally:
            with suppress(ReqlakeError), client.errors():
                cursor.cancel()  # who stops early leaves no query running; one that has ended does not mind


def explain(settings: Settings, sql: str, pin: Pin) -> tuple[str, str]:
    """The SQL that is sent, and Trino's plan of it."""
    with connected(settings) as client:
        query = _Query(client, settings, pin)
        sent = query.written(sql)
        with query.hints():
            return sent, "\n".join(str(row[0]) for row in client.rows(f"EXPLAIN {sent}"))


def names(settings: Settings) -> list[str]:
    """Full names of every table and view of the catalog."""
    with connected(settings) as client:
        return sorted(f"{space}.{name}" for space, name, _ in _Query(client, settings, Pin()).known)


@dataclass
class _Query:
    """What one query asks the server about its names."""

    client: Client
    settings: Settings
    pin: Pin
    pinned: list[str] = field(default_factory=list)
    read: set[tuple[str, str]] = field(default_factory=set)
    _known: list[tuple[str, str, str]] | None = None

    @property
    def known(self) -> list[tuple[str, str, str]]:
        """Namespace, name and kind of each table and view, asked for once."""
        if self._known is None:
            hidden = ", ".join(f"'{name}'" for name in HIDDEN)
            rows = self.client.rows(
                "SELECT table_schema, table_name, table_type "
                f"FROM {self.settings.trino.catalog}.information_schema.tables WHERE table_schema NOT IN ({hidden})"
            )
            self._known = [(str(space), str(name), str(kind)) for space, name, kind in rows]
        return self._known

    def written(self, sql: str) -> str:
        """The query as it is sent. Raises SqlError for a write or an unknown name, TableMissingError for a lost pin."""
        text = sql.strip().rstrip(";").rstrip()
        tree = read_query(text)
        sent = self._spliced(text, tree)
        if self.pin.snapshot is not None and not self.pinned:
            raise TableMissingError(
                f"no table of the query has the snapshot {self.pin.snapshot}: it is gone (expired) or another table's. "
                f'See SELECT snapshot_id, committed_at FROM "<table>$snapshots"'
            )
        return sent

    @contextmanager
    def hints(self) -> Iterator[None]:
        """Name the nearest column where Trino does not know one."""
        try:
            yield
        except SqlError as error:
            unknown = UNKNOWN_COLUMN.search(str(error))
            if unknown is None or not self.read:
                raise
            tables = " OR ".join(f"(table_schema = '{s}' AND table_name = '{n}')" for s, n in sorted(self.read))
            catalog = self.settings.trino.catalog
            rows = self.client.rows(f"SELECT column_name FROM {catalog}.information_schema.columns WHERE {tables}")
            known = sorted({str(row[0]) for row in rows})
            name = unknown[1].rpartition(".")[2]
            raise SqlError(f"{error}.{nearest(name, known)} There are {', '.join(known)}") from error

    def _spliced(self, text: str, tree: exp.Query) -> str:
        try:
            tables = [
                t for scope in traverse_scope(tree) for t in scope.tables if t.db or t.name not in scope.cte_sources
            ]
        except OptimizeError as error:
            raise SqlError(f"cannot make sense of the query: {str(error).splitlines()[0]}") from error
        unique = {t.parts[0].meta["start"]: t for t in tables if isinstance(t.this, exp.Identifier)}
        for start, table in sorted(unique.items(), reverse=True):
            end = table.parts[-1].meta["end"] + 1
            text = text[:start] + self._reference(table) + text[end:]
        return text

    def _reference(self, table: exp.Table) -> str:
        """What stands in the sent query in a table's place."""
        catalog = table.catalog or self.settings.trino.catalog
        if table.db.lower() in HIDDEN or catalog.lower() in HIDDEN:
            return ".".join(part.sql(dialect="trino") for part in table.parts)
        if table.db:
            self.read.add((table.db, table.name))
        if table.db and self.pin == Pin():
            return self._full(catalog, table.db, table.name)
        base, dollar, metadata = table.name.partition("$")
        space, name, kind = self._find(base, table.db or None)
        self.read.add((space, name))
        full = self._full(catalog, space, name + dollar + metadata)
        if metadata or table.args.get("version") is not None or self.pin == Pin():
            return full
        if kind == "VIEW":
            alias = "" if table.alias else f' AS "{name}"'
            return f"({self._view(space, name)}){alias}"
        return full + self._version(full)

    def _full(self, catalog: str, space: str, name: str) -> str:
        """A full name. A view's own text names the service user's catalog: it is read through the caller's."""
        own = {self.settings.trino.service_catalog, self.settings.catalog.name, self.settings.catalog.trino_name}
        return f'"{self.settings.trino.catalog if catalog in own else catalog}"."{space}"."{name}"'

    def _find(self, name: str, space: str | None) -> tuple[str, str, str]:
        wanted = (space or "").lower()
        found = [k for k in self.known if k[1].lower() == name.lower() and wanted in ("", k[0].lower())]
        if len(found) > 1:
            raise SqlError(
                f"{name!r} is ambiguous: {' and '.join(f'{s}.{n}' for s, n, _ in found)}. Write its namespace"
            )
        if not found:
            known = [n for s, n, _ in self.known if wanted in ("", s.lower())]
            there = f" There are {', '.join(sorted(known))}." if known else ""
            raise SqlError(
                f"no table or view {name!r} on Trino.{nearest(name, known)}{there} `reqlake views apply` makes views"
            )
        return found[0]

    def _view(self, space: str, name: str) -> str:
        """A view's query, its own tables pinned."""
        rows = self.client.rows(
            f"SELECT view_definition FROM {self.settings.trino.catalog}.information_schema.views "
            f"WHERE table_schema = '{space}' AND table_name = '{name}'"
        )
        if not rows or not rows[0][0]:
            raise SqlError(f"the view {space}.{name} does not show its query, so it has no versions: query its table")
        inner = str(rows[0][0])
        tree = sqlglot.parse_one(inner, dialect=LakeTrino)
        assert isinstance(tree, exp.Query)
        return self._spliced(inner, tree)

    def _version(self, full: str) -> str:
        """` FOR VERSION AS OF …`, or nothing for a table that the pinned snapshot is not of."""
        if self.pin.tag is not None:
            refs = [str(row[0]) for row in self.client.rows(f'SELECT name FROM {full[:-1]}$refs"')]
            if self.pin.tag not in refs:
                there = ", ".join(sorted(refs)) or "none"
                raise TableMissingError(
                    f"{full} has no tag or branch {self.pin.tag!r}.{nearest(self.pin.tag, refs)} There are {there}"
                )
            tag = self.pin.tag.replace("'", "''")
            return f" FOR VERSION AS OF '{tag}'"
        snapshot = self.pin.snapshot
        held = self.client.rows(f'SELECT 1 FROM {full[:-1]}$snapshots" WHERE snapshot_id = {snapshot}')
        if not held:
            return ""
        self.pinned.append(full)
        return f" FOR VERSION AS OF {snapshot}"
