"""The place in the order at which a reader stands, as small JSON, and whether a reader may take it up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from feature_reader.errors import StateError

STATE_VERSION = 1
REMEDIES = {
    "table_uuid": "this is another table, or the table was dropped and made again",
    "snapshot_id": "open the reader without snapshot_id and tag, it then takes the state's snapshot",
    "schema_id": "the table's schema has changed since: open the reader with schema_id=<the state's>",
    "row_filter": "open the reader with the state's row_filter",
    "window": "open the reader with the state's window",
    "shuffle": "open the reader with the state's shuffle",
    "plan_hash": "the snapshot's files or deletes are not those that the state was saved on",
    "seed": "open the reader with the state's seed",
}


@dataclass(frozen=True)
class ReaderState:
    """Everything that fixes the order, and how far it was consumed (over all ranks together)."""

    table_uuid: str
    snapshot_id: int | None
    schema_id: int
    row_filter: str
    window: int
    shuffle: bool
    plan_hash: str
    seed: int
    epoch: int
    requests_consumed: int
    version: int = STATE_VERSION

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)

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
        missing = [f.name for f in fields(cls) if f.name not in data]
        if missing:
            raise StateError(f"the reader state lacks {', '.join(missing)}: it was cut or edited")
        return cls(**{f.name: data[f.name] for f in fields(cls)})

    def must_match(self, reader: ReaderState, *names: str) -> None:
        """Raises StateError that names every field (of `names`) in which this state and the reader differ."""
        differing = [
            f"  {name}: the state has {getattr(self, name)!r}, the reader {getattr(reader, name)!r}; {REMEDIES[name]}"
            for name in names
            if getattr(self, name) != getattr(reader, name)
        ]
        if differing:
            raise StateError("the reader state does not belong to this reader:\n" + "\n".join(differing))
