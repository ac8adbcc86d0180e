"""What users leave behind, learned before it is deleted: their request ids, and their histories by hash.

A request id or a history that a user who stays has as well says nothing of those who go, so it is not looked for; nor
is a list of fewer than eight events. What is looked for is kept in a file of mode 600 below the lake's home until the
proof holds: a job that died after the deletion proves as much when it is run again.
"""

from __future__ import annotations

import bisect
import json
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.table import Table

from lakehouse.spec import DatasetSpec
from lakehouse.upkeep.files import addressed, referenced_by
from lakehouse.upkeep.histories import EVIDENCE, hashes, is_listed, lengths
from lakehouse.upkeep.wanted import Wanted
from spark_jobs.erase_users import hashed

THREADS = 4


@dataclass
class Left:
    """Request ids, the raw log's texts of them, and by column each list's hash with its events."""

    requests: set[int] = field(default_factory=set)
    request_texts: set[str] = field(default_factory=set)
    histories: dict[str, dict[str, int]] = field(default_factory=dict)

    def add(self, other: Left) -> None:
        """Both."""
        self.requests |= other.requests
        self.request_texts |= other.request_texts
        for name, found in other.histories.items():
            self.histories[name] = self.histories.get(name, {}) | found


@dataclass(frozen=True)
class Learned:
    """What the users leave, and what of it is others' as well."""

    theirs: Left = field(default_factory=Left)
    others: Left = field(default_factory=Left)

    @property
    def sought(self) -> Left:
        """What is theirs alone."""
        kept = {
            name: {h: n for h, n in found.items() if h not in self.others.histories.get(name, {})}
            for name, found in self.theirs.histories.items()
        }
        texts = {t for t in self.theirs.request_texts if hashed(t) not in self.others.requests}
        return Left(self.theirs.requests - self.others.requests, texts, kept)

    @property
    def counts(self) -> dict[str, int]:
        """How many request ids and lists are sought, and how many are shared."""
        sought = self.sought
        lists = [sum(len(found) for found in left.histories.values()) for left in (sought, self.theirs)]
        return {
            "requests": len(sought.requests),
            "shared_requests": len(self.theirs.requests) - len(sought.requests),
            "histories": lists[0],
            "shared_histories": lists[1] - lists[0],
        }


def learn(
    tables: Iterable[Table],
    spec: DatasetSpec,
    wanted: Wanted,
    *,
    earlier: Left | None = None,
    histories: bool = True,
) -> Learned:
    """What the users leave in any snapshot of the tables, or left in an earlier run, less what others have as well.

    With histories, every live file's are decoded once more, since another user's may be equal.
    """
    columns = [c.name for c in spec.columns("sequence")] if histories else []
    files = [(t, addressed(t.location(), path)) for t in tables for path in _data_files(t)]
    found, others = earlier or Left(), Left()
    for mine in _each(files, lambda t, path: _of_users(t, path, wanted, columns)):
        found.add(mine)
    if found.requests or found.histories:
        for theirs in _each(files, lambda t, path: _of_others(t, path, wanted, found)):
            others.add(theirs)
    return Learned(found, others)


def known(wanted: Wanted, learned: Learned, spec: DatasetSpec) -> Wanted:
    """Who is looked for, with what was learned; a raw log's list is looked for under its own name as well."""
    sought = learned.sought
    lists = dict(sought.histories)
    for column in spec.columns("sequence"):
        if column.group is not None and spec.sequences[column.group].order == "oldest_first":
            lists.setdefault(column.raw, sought.histories.get(column.name, {}))
    texts = sought.request_texts if spec.keys.request_id.type == "string" else map(str, sought.requests)
    return wanted.knowing(frozenset(sought.requests), frozenset(texts), lists)


def _data_files(table: Table) -> list[str]:
    if "user_id" not in {f.name for f in table.schema().fields}:
        return []
    return sorted(p for p in referenced_by(table, table.metadata.snapshots) if p.endswith(".parquet"))


def _each(files: list[tuple[Table, str]], look: Callable[[Table, str], Left]) -> Iterator[Left]:
    with ThreadPoolExecutor(THREADS) as pool:
        yield from pool.map(lambda file: look(*file), files)


def _of_users(table: Table, path: str, wanted: Wanted, columns: list[str]) -> Left:
    found, ids = Left(), sorted(wanted.ids)
    with pq.ParquetFile(table.io.new_input(path).open()) as file:
        held = [n for n in ("user_id", "request_id", "request_id_raw", *columns) if n in file.schema_arrow.names]
        if "user_id" not in held:
            return found
        groups = [g for g in range(file.num_row_groups) if _may_hold(file.metadata.row_group(g), ids)]
        for batch in file.iter_batches(columns=held, row_groups=groups) if groups else ():
            users = batch["user_id"].cast(pa.int64())
            mine = batch.filter(pc.fill_null(pc.is_in(users, pa.array(ids, pa.int64())), False))
            if not mine.num_rows:
                continue
            if "request_id" in held:
                found.requests |= set(mine["request_id"].drop_null().to_pylist())
            if "request_id_raw" in held:
                found.request_texts |= set(mine["request_id_raw"].drop_null().to_pylist())
            for name in columns:
                if name in held and is_listed(mine[name].type):
                    sizes = lengths(mine[name])
                    lists = hashes(mine[name], np.flatnonzero(sizes >= EVIDENCE))
                    found.histories.setdefault(name, {}).update((h, int(sizes[row])) for row, h in lists)
    return found


def _of_others(table: Table, path: str, wanted: Wanted, sought: Left) -> Left:
    """What of the sought is of users who stay."""
    found = Left()
    sizes = {n: np.unique(np.fromiter(v.values(), np.int64)) for n, v in sought.histories.items() if v}
    with pq.ParquetFile(table.io.new_input(path).open()) as file:
        held = [n for n in ("user_id", "request_id", *sizes) if n in file.schema_arrow.names]
        if "user_id" not in held:
            return found
        for batch in file.iter_batches(columns=held):
            users = batch["user_id"].cast(pa.int64())
            stay = pc.invert(pc.is_in(users, pa.array(sorted(wanted.ids), pa.int64())))
            theirs = batch.filter(pc.and_(stay, pc.is_valid(users)))
            if "request_id" in held:
                found.requests |= sought.requests.intersection(theirs["request_id"].to_pylist())
            for name in sizes.keys() & set(held):
                rows = np.flatnonzero(np.isin(lengths(theirs[name]), sizes[name]))
                mine = sought.histories[name]
                equal = {h: mine[h] for _, h in hashes(theirs[name], rows) if h in mine}
                found.histories.setdefault(name, {}).update(equal)
    return found


def _may_hold(group: pq.RowGroupMetaData, ids: list[int]) -> bool:
    """Whether a row group's bounds of user_id leave room for one of the sorted ids."""
    for c in range(group.num_columns):
        column = group.column(c)
        if column.path_in_schema == "user_id" and column.is_stats_set and column.statistics.has_min_max:
            at = bisect.bisect_left(ids, column.statistics.min)
            return at < len(ids) and bool(ids[at] <= column.statistics.max)
    return True


class Draft:
    """The file that keeps what was learned until the proof holds."""

    def __init__(self, home: Path, dataset: str, digest: str) -> None:
        self.path = home / "reports" / f".erase-{dataset}-{digest}.sought"

    def read(self) -> Left:
        """What an earlier run has learned; nothing where there was none."""
        if not self.path.exists():
            return Left()
        told = json.loads(self.path.read_text(encoding="utf-8"))
        return Left(set(told["requests"]), set(told["request_texts"]), told["histories"])

    def write(self, left: Left) -> None:
        """Keep it, whole or not at all; nobody else may read it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        told = {"requests": sorted(left.requests), "request_texts": sorted(left.request_texts)}
        draft.touch(mode=0o600)
        draft.write_text(json.dumps(told | {"histories": left.histories}), encoding="utf-8")
        draft.replace(self.path)

    def remove(self) -> None:
        """It is proved: nothing of it is kept."""
        self.path.unlink(missing_ok=True)
