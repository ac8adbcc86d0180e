"""What the jobs are given, and the plain model of what the lake has to hold after them.

Each round brings a cohort of users: half of its rows at once, the others a round later as late rows, labels before and
after their impressions. Once a cohort is whole, a backfill fills its feature, copies of its rows come again with other
labels, and its users are erased one by one.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.spec import DatasetSpec
from tests.spark_jobs.plain_labels import (
    LOG,
    TOLD,
    label_rows,
    labelled_log,
    labelled_spec,
    plain_labelled,
    some_labels,
)

Row = dict[str, Any]
SPEC: DatasetSpec = labelled_spec("soak", "latest")
# Not `split`: a label that has met one variant of an impression does not wait for another one (docs/ingest.md).
FEATURE = "extra"
USERS = 10  # ids of a cohort: user 7 of cohort 3 is 37
WHOLE = 2  # rounds after which a cohort has all its rows and labels


@dataclass
class Model:
    """Rows and labels by user, the backfilled values by request, and what each tag held."""

    seed: int
    folder: Path
    rows: dict[int, list[Row]] = field(default_factory=lambda: defaultdict(list))
    told: dict[int, list[Row]] = field(default_factory=lambda: defaultdict(list))
    extra: dict[tuple[int, int], int] = field(default_factory=dict)
    filled: bool = False
    erased: set[int] = field(default_factory=set)
    tags: dict[str, list[Row]] = field(default_factory=dict)

    def cohort(self, number: int) -> tuple[list[Row], list[Row], list[Row], list[Row]]:
        """Rows that come at once and late, labels that come at once and late."""
        draw = random.Random(f"{self.seed}/{number}")
        seed = draw.randrange(1 << 30)
        rows = labelled_log(seed)
        told = label_rows(seed, rows)
        mine = [[one | {"u": one["u"] + USERS * number} for one in draw.sample(of, len(of))] for of in (rows, told)]
        (rows, told), half = mine, len(mine[0]) // 2
        return rows[:half], rows[half:], told[: len(told) // 2], told[len(told) // 2 :]

    def whole_users(self, round_number: int) -> list[int]:
        """Users whose every row and label has come in an earlier round, and who were not erased."""
        return sorted(u for u in self.rows if u // USERS <= round_number - WHOLE and u not in self.erased)

    def copies(self, users: Iterable[int], seed: int) -> list[Row]:
        """Some rows of these users once more, with other labels."""
        draw = random.Random(f"{self.seed}/copies/{seed}")
        known = [one for user in users for one in self.rows[user]]
        return [one | some_labels(draw) for one in draw.sample(known, min(10, len(known)))]

    def add(self, rows: list[Row], told: list[Row]) -> None:
        """What the jobs of a round bring in."""
        for one in rows:
            self.rows[one["u"]].append(one)
        for one in told:
            self.told[one["u"]].append(one)

    def fill(self, users: Iterable[int], value: int) -> None:
        """Every request of these users has a value now."""
        self.filled = True
        self.extra |= {(one["u"], one["r"]): value for user in users for one in self.rows[user]}

    def erase(self, user: int) -> None:
        """A user leaves the table and the tags."""
        self.erased.add(user)
        self.tags = {tag: [r for r in rows if r["user_id"] != user] for tag, rows in self.tags.items()}

    def expected(self) -> list[Row]:
        """The request table's rows, but for hashes and ranks."""
        found = []
        for user, rows in self.rows.items():
            if user not in self.erased:
                for request in plain_labelled(rows, self.told[user], SPEC):
                    more = {FEATURE: self.extra.get((user, request["request_id"]))} if self.filled else {}
                    found.append(request | more)
        return in_order(found)

    def write(self, name: str, rows: list[Row], schema: pa.Schema) -> str:
        """A raw file."""
        path = self.folder / f"{name}.parquet"
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
        return str(path)

    def write_log(self, name: str, rows: list[Row]) -> str:
        """A raw log."""
        return self.write(name, rows, LOG)

    def write_labels(self, name: str, told: list[Row]) -> str:
        """A file of labels."""
        return self.write(name, told, TOLD)

    def write_source(self, name: str, users: Iterable[int], value: int) -> str:
        """A backfill's source for every request of these users."""
        keys = sorted({(one["u"], one["r"]) for user in users for one in self.rows[user]})
        rows = [{"user_id": u, "request_id": r, FEATURE: value} for u, r in keys]
        return self.write(name, rows, pa.schema({n: pa.int64() for n in ("user_id", "request_id", FEATURE)}))


def in_order(rows: Iterable[Row]) -> list[Row]:
    """Rows in one order, with their columns in one order, so that two lists can be compared."""
    told = [{name: _in_utc(value) for name, value in sorted(row.items())} for row in rows]
    return sorted(told, key=lambda r: (r["user_id"], r["request_id"], repr(r)))


def _in_utc(value: Any) -> Any:
    """Times in one zone object, so that equal rows are told in equal words."""
    if isinstance(value, list):
        return [_in_utc(one) for one in value]
    return value.astimezone(UTC) if isinstance(value, datetime) else value
