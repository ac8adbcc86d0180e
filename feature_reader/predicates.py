"""Requests left out one by one: a predicate of one's own, and a file of requests to skip.

Both are asked while the reader plans, on the columns that they name, decoded as a batch holds them. So the length of an
epoch, the ranks' equal steps and the order are exact, and a state knows what was left out; what it costs is a pass over
those columns for each plan.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from pyiceberg.schema import Schema

from feature_reader.batch import Columns
from feature_reader.decode import Decoder
from feature_reader.errors import FilterError
from feature_reader.files import DataFiles
from feature_reader.layout import build_layout, hash_string, sequence_siblings
from lakehouse.spec import DatasetSpec

KEYS = ("user_id", "request_id", "request_hash")
RAW = {"user_id_raw": "user_id", "request_id_raw": "request_id"}


@dataclass(frozen=True)
class Predicate:
    """Which requests to read: `keep(columns)` gives one bool for each, from columns of the requests alone.

    `columns` of the mapping are as in a batch: arrays [R] or [R, n], and `Jagged`. `keep` is a pure function. `name` is
    what a state remembers of it: change it when the function changes.
    """

    name: str
    columns: tuple[str, ...]
    keep: Callable[[Columns], Any]

    def mask(self, columns: Columns, rows: int, where: str) -> np.ndarray:
        """Which rows to keep, bool [rows]. Raises FilterError for an answer that is not one bool for each row."""
        given = {name: columns[name] for name in self.columns}
        first, again = (np.asarray(self.keep(given)) for _ in range(2))
        if first.dtype != np.bool_ or first.shape != (rows,):
            raise FilterError(
                f"predicate {self.name!r} gave {first.dtype}{list(first.shape)} for the {rows} requests of {where}: "
                "give one bool for each request"
            )
        if not np.array_equal(first, again):
            raise FilterError(
                f"predicate {self.name!r} gave two answers for the same requests of {where}: it has to depend on "
                "their columns alone, or no state could be taken up again"
            )
        return first


@dataclass(frozen=True)
class SkipRequests:
    """Requests to leave out, by their keys: a Parquet file, or CSV with a header.

    Columns: `request_id`, and `user_id` and `request_hash` where it takes them to tell requests apart, as the table and
    its batches hold them; `user_id_raw` and `request_id_raw` are a raw log's own strings.
    """

    keys: tuple[str, ...]
    rows: np.ndarray
    """The keys' values, int64 [n, keys], sorted."""

    @classmethod
    def read(cls, path: str | Path) -> SkipRequests:
        """Read a file. Raises FilterError for one that cannot be read, or holds no keys."""
        try:
            table = pq.read_table(path) if str(path).endswith(".parquet") else pyarrow.csv.read_csv(path)
        except (OSError, pa.ArrowInvalid) as error:
            raise FilterError(f"cannot read the requests to skip from {path}: {error}") from error
        return cls.of(table, str(path))

    @classmethod
    def of(cls, table: pa.Table, where: str = "the table") -> SkipRequests:
        """From a table. Raises FilterError for one that holds no keys."""
        known = (*KEYS, *RAW)
        unknown = [name for name in table.column_names if name not in known]
        keys = [RAW.get(name, name) for name in table.column_names]
        if unknown or "request_id" not in keys or len(set(keys)) < len(keys):
            raise FilterError(
                f"{where} has the columns {', '.join(table.column_names)}: requests to skip are named by request_id "
                f"or request_id_raw, and user_id, user_id_raw or request_hash (a header of {', '.join(known)})"
            )
        values = [_key(table[name], name, where) for name in table.column_names]
        order = sorted(range(len(keys)), key=lambda i: KEYS.index(keys[i]))
        rows = np.unique(np.stack([values[i] for i in order], axis=1), axis=0)
        return cls(tuple(keys[i] for i in order), rows)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def name(self) -> str:
        """What a state remembers: how many, and a hash over them."""
        digest = hashlib.sha256(",".join(self.keys).encode() + np.ascontiguousarray(self.rows, "<i8").tobytes())
        return f"{len(self)} by {', '.join(self.keys)}, {digest.hexdigest()[:16]}"

    def to_csv(self) -> str:
        """The text of a file that `read` reads."""
        return "\n".join([",".join(self.keys), *(",".join(map(str, row)) for row in self.rows.tolist())]) + "\n"

    def predicate(self) -> Predicate:
        """Keeps every other request."""
        return Predicate(self.name, self.keys, self._keep)

    def _keep(self, columns: Columns) -> np.ndarray:
        mine = np.stack([np.asarray(columns[key], np.int64) for key in self.keys], axis=1)
        return ~np.isin(_one(mine), _one(self.rows))


def skipped(given: SkipRequests | pa.Table | str | Path | None) -> SkipRequests | None:
    """What a reader is given to skip, as keys. Raises FilterError as SkipRequests does."""
    if given is None or isinstance(given, SkipRequests):
        return given
    return SkipRequests.of(given) if isinstance(given, pa.Table) else SkipRequests.read(given)


def asked(predicates: Iterable[Predicate], spec: DatasetSpec, schema: Schema, *, users: bool = False) -> Decoder:
    """Decodes the columns that predicates read. Raises FilterError for a predicate that reads candidates."""
    names = {name for predicate in predicates for name in predicate.columns} | ({"user_id"} if users else set())
    layout = build_layout(spec, schema, sorted(names))
    wrong = [field.name for field in layout.fields if field.part == "candidate"]
    if wrong:
        raise FilterError(
            f"a predicate reads {', '.join(wrong)}, of which there is one for each candidate: it keeps or drops "
            "whole requests, by columns of the requests"
        )
    return Decoder(layout, sequence_siblings(spec, schema))


def screened(
    predicates: Iterable[Predicate], columns: Columns, passing: np.ndarray, where: str
) -> tuple[np.ndarray, list[int]]:
    """Of the rows that are `passing` (bool [rows]) those that pass every predicate, and how many each one drops."""
    dropped = []
    for predicate in predicates:
        mask = passing & predicate.mask(columns, len(passing), where)
        dropped.append(int(passing.sum() - mask.sum()))
        passing = mask
    return passing, dropped


class Screen:
    """What a plan asks of each request of a row group: which predicates it passes, and whose it is."""

    def __init__(
        self, predicates: Iterable[Predicate], spec: DatasetSpec, schema: Schema, files: DataFiles, *, users: bool
    ) -> None:
        self.predicates, self.users, self._files = tuple(predicates), users, files
        self._decoder = asked(self.predicates, spec, schema, users=users)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is asked."""
        return not self.predicates and not self.users

    def __call__(
        self, path: str, group: int, rows: int, keep: np.ndarray | None
    ) -> tuple[np.ndarray | None, np.ndarray | None, list[int]]:
        """Of a row group's rows `keep` (None: all) those that pass, their users, and how many each predicate drops."""
        if self.is_empty:
            return keep, None, []
        present: Mapping[int, str] = self._files.footer(path).present
        where = f"{path}, row group {group}"
        names = [present[f.field_id] for f in self._decoder.needs(present)]
        columns = self._decoder(self._files.read(path, group, names), present, where).request
        passing = np.zeros(rows, bool)
        passing[slice(None) if keep is None else keep] = True
        passing, dropped = screened(self.predicates, columns, passing, where)
        kept = None if passing.all() else np.flatnonzero(passing)
        users = np.asarray(columns["user_id"]) if self.users else None
        return kept, users if users is None or kept is None else users[kept], dropped


def _key(column: pa.ChunkedArray, name: str, where: str) -> np.ndarray:
    """A key column as int64 [n]."""
    if column.null_count:
        raise FilterError(f"{where} has {column.null_count} rows without {name}: give every key of a request to skip")
    if name in RAW:
        return np.array([hash_string(str(text)) for text in column.to_pylist()], np.int64)
    if not pa.types.is_integer(column.type):
        raise FilterError(
            f"{where} holds {column.type} as {name}, which is a 64-bit integer in the table: for a raw log's own "
            f"strings name the column {name}_raw"
        )
    return np.asarray(column.cast(pa.int64()).to_numpy(), np.int64)


def _one(rows: np.ndarray) -> np.ndarray:
    """Rows of keys [n, k] as one comparable value each [n]."""
    whole = np.ascontiguousarray(rows, np.int64)
    return whole.view([(f"k{i}", np.int64) for i in range(whole.shape[1])]).ravel()
