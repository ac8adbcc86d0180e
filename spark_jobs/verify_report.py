"""What a verification found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["missing", "extra", "differs"]


@dataclass(frozen=True)
class Day:
    """One day of requests: accepted raw rows, rows of the expanded table, columns whose checksums differ."""

    day: str
    raw_rows: int
    table_rows: int
    differing: tuple[str, ...]

    @property
    def agrees(self) -> bool:
        """Same rows, same checksums."""
        return self.raw_rows == self.table_rows and not self.differing


@dataclass(frozen=True)
class Difference:
    """One impression that is not the same on both sides.

    `missing` from the table, `extra` in the table (or there once too often), or `differs` in `columns`: {column: (raw
    value, table's value)}, as text, sensitive ones masked. `place` is the raw file and row, where there is one.
    """

    kind: Kind
    user_id: str
    request_id: str
    item_id: str
    columns: dict[str, tuple[str, str]]
    place: str


@dataclass(frozen=True)
class VerifyReport:
    """The books: `raw_rows = expanded_rows + quarantined_rows + duplicate_rows`, and every difference found.

    `duplicate_rows` are raw rows whose equal is accounted for already. `overruled_rows` are rows whose request features
    another row of their request supplied (rules `first` and `latest`): counted, no fault. `request_faults` counts
    requests by what is wrong with them as a whole: their time, hash or positions.
    """

    dataset: str
    snapshot_id: int | None
    raw_rows: int
    expanded_rows: int
    quarantined_rows: int
    duplicate_rows: int
    overruled_rows: int
    requests: int
    columns: tuple[str, ...]
    days: tuple[Day, ...]
    request_faults: dict[str, int]
    differing_rows: int
    differences: tuple[Difference, ...]
    seconds: float

    @property
    def balanced(self) -> bool:
        """Whether the books close."""
        return self.raw_rows == self.expanded_rows + self.quarantined_rows + self.duplicate_rows

    @property
    def ok(self) -> bool:
        """Whether the table is the raw log."""
        return self.balanced and not self.request_faults and all(day.agrees for day in self.days)
