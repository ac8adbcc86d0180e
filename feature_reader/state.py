"""The place in the order at which a reader stands, as small JSON, and whether a reader may take it up."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from typing import Any

from feature_reader.errors import StateError

STATE_VERSION = 2
UNNAMED = ""  # the only table of a state of version 1
OPTIONAL = ("predicate", "skip_requests", "min_users_per_batch", "damage")
REMEDIES = {
    "table_uuid": "this is another table, or the table was dropped and made again",
    "snapshot_id": "open the reader without snapshot_id and tag, it then takes the state's snapshot",
    "schema_id": "the table's schema has changed since: open the reader with schema_id=<the state's>",
    "row_filter": "open the reader with the state's row_filter",
    "window": "open the reader with the state's window",
    "shuffle": "open the reader with the state's shuffle",
    "plan_hash": "the snapshot's files or deletes are not those that the state was saved on",
    "seed": "open the reader with the state's seed",
    "predicate": "open the reader with the state's predicate",
    "skip_requests": "open the reader with the state's skip_requests; other requests to skip are a new run",
    "min_users_per_batch": "open the reader with the state's min_users_per_batch",
}


@dataclass(frozen=True)
class TablePin:
    """Which table was read, and what of it."""

    table_uuid: str
    snapshot_id: int | None
    schema_id: int


@dataclass(frozen=True)
class ReaderState:
    """Everything that fixes the order, and how far it was consumed (over all ranks together)."""

    tables: dict[str, TablePin]
    """By the table's full name; with `@<tag or snapshot>` where one table is read at several."""
    row_filter: str
    window: int
    shuffle: bool
    plan_hash: str
    seed: int
    epoch: int
    requests_consumed: int
    version: int = STATE_VERSION
    predicate: str = ""
    skip_requests: str = ""
    min_users_per_batch: int = 0
    damage: list[list[Any]] = field(default_factory=list)
    """[file, row group (-1: all), requests] of what could not be read and was left out."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it: of what may be left out or asked for, only what is."""
        used = asdict(self)
        return {name: value for name, value in used.items() if name not in OPTIONAL or value}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ReaderState:
        """Read what `to_dict` gave. Raises StateError for a newer version or a field that is not there."""
        version = data.get("version")
        if not isinstance(version, int):
            raise StateError(
                f"this is no reader state: it has no version, only {', '.join(map(str, data)) or 'nothing'}"
            )
        if version > STATE_VERSION:
            raise StateError(
                f"reader state of version {version}, this reqlake reads up to {STATE_VERSION}: upgrade reqlake"
            )
        if version == 1 and (pin := [f.name for f in fields(TablePin)]) and all(name in data for name in pin):
            data = {**data, "tables": {UNNAMED: {name: data[name] for name in pin}}, "version": STATE_VERSION}
        required = [f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING]
        missing = [name for name in required if name not in data]
        if missing:
            raise StateError(f"the reader state lacks {', '.join(missing)}: it was cut or edited")
        try:
            tables = {str(name): TablePin(**pin) for name, pin in data["tables"].items()}
        except (AttributeError, TypeError) as error:
            raise StateError(f"the reader state's tables are {data['tables']!r}: it was edited") from error
        return cls(**{f.name: data[f.name] for f in fields(cls) if f.name in data} | {"tables": tables})

    def for_tables(self, labels: Collection[str]) -> ReaderState:
        """The same state for a reader of tables of these names: a single table may have been renamed since.

        Raises StateError that names the tables that only one of the two has.
        """
        if len(self.tables) == len(labels) == 1:
            return replace(self, tables=dict(zip(labels, self.tables.values(), strict=True)))
        missing = [label or "one table without a name" for label in self.tables if label not in labels]
        more = [label for label in labels if label not in self.tables]
        if missing or more:
            raise StateError(
                "tables: the state and the reader are of different tables. "
                f"Only in the state: {', '.join(missing) or 'none'}; only in the reader: {', '.join(more) or 'none'}"
            )
        return self

    def must_match(self, reader: ReaderState, *names: str) -> None:
        """Raises StateError that names every field (of `names`) in which this state and the reader differ."""
        differing = []
        for name in names:
            for where, mine, other in self._pairs(reader, name):
                if mine != other:
                    differing.append(f"  {where}: the state has {mine!r}, the reader {other!r}; {REMEDIES[name]}")
        if differing:
            raise StateError("the reader state does not belong to this reader:\n" + "\n".join(differing))

    def _pairs(self, reader: ReaderState, name: str) -> list[tuple[str, Any, Any]]:
        """Where a field stands, its value here and in the reader: once for each table if it is a table's."""
        if name not in {f.name for f in fields(TablePin)}:
            return [(name, getattr(self, name), getattr(reader, name))]
        return [
            (
                name if len(self.tables) == 1 else f"{name} of {label}",
                getattr(pin, name),
                getattr(reader.tables[label], name),
            )
            for label, pin in self.tables.items()
        ]
