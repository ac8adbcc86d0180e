"""`ModelInputs`: which columns a ranker reads and how, in plain frozen values that go to JSON and back.

The model knows columns by what they are (numbers, ids, one sequence's aligned lists), never by name or dataset.
`training.inputs` derives a description from a dataset spec; a checkpoint carries it, so that serving needs no spec.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

Transform = Literal["identity", "log1p", "age"]


@dataclass(frozen=True, kw_only=True)
class Dense:
    """Numbers of one column, standardised: a scalar, a fixed vector, or the mean of a ragged list.

    `log1p` is for heavy-tailed counts; `age` is the log2 of the seconds from a timestamp to the request.
    """

    column: str
    size: int = 1
    transform: Transform = "identity"
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    missing: bool = False
    """Whether training data had gaps: "is missing" is then a number of its own."""

    @property
    def width(self) -> int:
        """Numbers that the model gets."""
        return self.size * (2 if self.missing else 1)


@dataclass(frozen=True, kw_only=True)
class Lookup:
    """Ids of one column, looked up in a hashed table; several ids of a row are mean-pooled."""

    column: str
    table: str


@dataclass(frozen=True, kw_only=True)
class Table:
    """A hashed embedding table."""

    rows: int
    dim: int


@dataclass(frozen=True, kw_only=True)
class Sequence:
    """One sequence's aligned lists. `aligned` pairs a list with the candidate column of the same meaning."""

    name: str
    first: str
    """A column of the sequence, for its lengths."""
    newest_first: bool = False
    time: str | None = None
    lookups: tuple[Lookup, ...] = ()
    dense: tuple[Dense, ...] = ()
    aligned: tuple[tuple[str, str], ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """The sequence columns that are read."""
        listed = [self.first, *(x.column for x in self.lookups), *(x.column for x in self.dense)]
        return tuple(dict.fromkeys(listed + ([self.time] if self.time else [])))


@dataclass(frozen=True, kw_only=True)
class Task:
    """One label to learn: `bce` for probabilities, `mse` for numbers (learned standardised by mean and std)."""

    label: str
    loss: Literal["bce", "mse"]
    weight: float = 1.0
    mean: float = 0.0
    std: float = 1.0


@dataclass(frozen=True, kw_only=True)
class ModelInputs:
    """All that a ranker reads and predicts."""

    tasks: tuple[Task, ...]
    tables: tuple[tuple[str, Table], ...] = ()
    history: Sequence | None = None
    """The sequence that candidates attend to."""
    pooled: tuple[Sequence, ...] = ()
    """The other sequences, mean-pooled."""
    request_dense: tuple[Dense, ...] = ()
    request_lookups: tuple[Lookup, ...] = ()
    candidate_dense: tuple[Dense, ...] = ()
    candidate_lookups: tuple[Lookup, ...] = ()
    ignored: tuple[str, ...] = ()
    """Columns of the spec that no input was made of (strings and lists of ids without an embedding)."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that a batch needs for a forward pass, without labels."""
        parts = (self.request_dense, self.request_lookups, self.candidate_dense, self.candidate_lookups)
        named = [x.column for part in parts for x in part]
        for sequence in ([self.history] if self.history else []) + list(self.pooled):
            named += [*sequence.columns, *(candidate for _, candidate in sequence.aligned)]
        return tuple(dict.fromkeys(named))

    def to_json(self) -> dict[str, Any]:
        """As JSON's types."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> ModelInputs:
        """What `to_json` wrote. Raises TypeError or KeyError for what it did not."""
        return cls(
            tasks=tuple(Task(**x) for x in data["tasks"]),
            tables=tuple((name, Table(**x)) for name, x in data["tables"]),
            history=_sequence(data["history"]) if data["history"] else None,
            pooled=tuple(_sequence(x) for x in data["pooled"]),
            request_dense=tuple(_dense(x) for x in data["request_dense"]),
            request_lookups=tuple(Lookup(**x) for x in data["request_lookups"]),
            candidate_dense=tuple(_dense(x) for x in data["candidate_dense"]),
            candidate_lookups=tuple(Lookup(**x) for x in data["candidate_lookups"]),
            ignored=tuple(data["ignored"]),
        )


def _dense(data: dict[str, Any]) -> Dense:
    return Dense(**data | {"mean": tuple(data["mean"]), "std": tuple(data["std"])})


def _sequence(data: dict[str, Any]) -> Sequence:
    return Sequence(
        **data
        | {
            "lookups": tuple(Lookup(**x) for x in data["lookups"]),
            "dense": tuple(_dense(x) for x in data["dense"]),
            "aligned": tuple((a, b) for a, b in data["aligned"]),
        }
    )
