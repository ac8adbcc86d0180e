"""Impression rows to request rows within one window: what the ingest does to a log, done to a piece of it in memory.

Rows of one (user, request) become one row of the request table's layout: request features from the first of them, the
candidates as parallel lists in the order shown. Rows that repeat an impression are dropped. Unlike the ingest it checks
nothing: rows of one request that disagree on a feature are not told apart.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_reader.arrays import offsets_of
from feature_reader.columns import StringHashes, one_array
from feature_reader.errors import ReaderError, UnsupportedError
from lakehouse.errors import nearest
from lakehouse.schema import arrow_schema
from lakehouse.spec import Column, DatasetSpec

MICROSECONDS = {"s": 1_000_000, "ms": 1000, "us": 1}
INSTANT = pa.timestamp("us", tz="UTC")


class FlatRows:
    """Reads impression rows as a spec says. Raises UnsupportedError for a spec whose keys only an ingest can make."""

    def __init__(self, spec: DatasetSpec) -> None:
        if spec.keys.request_id.column is None or spec.keys.user_id.fallback:
            raise UnsupportedError(
                f"the spec of {spec.name} derives its keys (requests by gaps in time, or a fallback of user_id): "
                "only an ingest can do that, see `reqlake ingest`"
            )
        self.spec = spec
        self.columns = spec.columns("key", "request", "sequence", "candidate_key", "candidate", "label")
        self._schema = arrow_schema(spec)
        self._hashes = StringHashes()

    @property
    def raw(self) -> list[str]:
        """The log's top-level columns that are read."""
        keys = self.spec.keys
        names = {c.raw for c in self.columns if c.feature is not None}
        names |= {keys.user_id.column, str(keys.request_id.column), keys.request_ts.column, keys.item_id.column}
        names |= {t.time.column for t in self.spec.labels.values() if t.time}
        names |= {keys.impression_ts.column} if keys.impression_ts else set()
        names |= {keys.position} if keys.position else set()
        return sorted({name.split(".")[0] for name in names})

    def keys(self, rows: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        """User and request of each row, int64 [n] each, strings hashed."""
        user, request = self.spec.keys.user_id, self.spec.keys.request_id
        return self._id(rows, user.column, user.type), self._id(rows, str(request.column), request.type)

    def requests(self, rows: pa.Table) -> pa.Table:
        """The window's requests in the order of their first rows, in the request table's layout."""
        keys = self.spec.keys
        user, request = self.keys(rows)
        item = self._id(rows, keys.item_id.column, keys.item_id.type)
        shown = _micros(rows, keys.impression_ts) if keys.impression_ts else np.zeros(len(item), np.int64)
        place = _leaf(rows, keys.position).cast(pa.int64()).to_numpy(zero_copy_only=False) if keys.position else shown
        owner = _first_seen(user, request)
        order = np.lexsort((item, shown, place, owner))
        same = np.ones(len(order), dtype=bool)
        for values in (owner, place, shown, item):
            same[1:] &= values[order[1:]] == values[order[:-1]]
        same[:1] = False
        order = order[~same]
        starts = np.flatnonzero(np.diff(owner[order], prepend=-1))
        edges = np.append(starts, len(order))
        first = np.minimum.reduceat(order, starts) if len(order) else order
        given: dict[str, Any] = {
            "user_id": pa.array(user[first]),
            "request_id": pa.array(request[first]),
            "request_ts": pa.array(np.minimum.reduceat(_micros(rows, keys.request_ts)[order], starts)),
            "item_id": pa.array(item[order]),
            "impression_ts": pa.array(shown[order]),
            "position": pa.array(
                place[order] if keys.position else np.arange(len(order)) - np.repeat(starts, np.diff(edges))
            ),
        }
        offsets = pa.array(edges, pa.int32())
        columns = {}
        for column in self.columns:
            kind = self._schema.field(column.name).type
            if column.name in given:
                values = given[column.name]
            elif column.feature is None:
                continue  # what only the writer knows: hashes, the ids' own strings
            else:
                values = self._feature(rows, column).take(pa.array(order if column.per_candidate else first))
            if column.per_candidate:
                values = pa.ListArray.from_arrays(offsets, values.cast(kind.value_type))
            columns[column.name] = values.cast(kind)
        return pa.table(columns)

    def _feature(self, rows: pa.Table, column: Column) -> pa.Array:
        values, feature = _leaf(rows, column.raw), column.feature
        if column.type.element != "timestamp" or feature is None:
            return values
        if pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
            inner = _instants(values.flatten(), feature.unit, feature.zone)
            lengths = pc.fill_null(pc.list_value_length(values), 0).to_numpy(zero_copy_only=False)
            return pa.ListArray.from_arrays(pa.array(offsets_of(lengths), pa.int32()), inner)
        return _instants(values, feature.unit, feature.zone)

    def _id(self, rows: pa.Table, name: str, kind: str) -> np.ndarray:
        values = _leaf(rows, name)
        if values.null_count:
            raise ReaderError(
                f"{values.null_count} rows have no {name!r}, which names a user, request or item: an ingest "
                "quarantines them; leave them out of the source, for example by a filtered Arrow table"
            )
        if kind == "string":
            return self._hashes(values.cast(pa.string()), 0)
        return np.asarray(values.cast(pa.int64()).to_numpy(zero_copy_only=False), dtype=np.int64)


def _leaf(rows: pa.Table, path: str | None) -> pa.Array:
    """A column by its dotted path, through structs and lists of structs."""
    top, *inner = str(path).split(".")
    if top not in rows.column_names:
        raise ReaderError(f"the rows have no column {top!r}.{nearest(top, rows.column_names)} Correct the spec")
    array = one_array(rows[top])
    for name in inner:
        if pa.types.is_struct(array.type):
            array = pc.struct_field(array, name)
        else:
            lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
            offsets = pa.array(offsets_of(lengths), pa.int32())
            array = pa.ListArray.from_arrays(offsets, pc.struct_field(array.flatten(), name))
    return array


def _instants(values: pa.Array, unit: str | None, zone: str | None) -> pa.Array:
    if unit is not None:
        return pc.multiply(values.cast(pa.int64()), MICROSECONDS[unit]).cast(INSTANT)
    if pa.types.is_timestamp(values.type) and values.type.tz is None:
        values = pc.assume_timezone(values, zone or "UTC")
    return values.cast(INSTANT, safe=False)


def _micros(rows: pa.Table, time: Any) -> np.ndarray:
    instants = _instants(_leaf(rows, time.column), time.unit, time.zone)
    return np.asarray(instants.view(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False), dtype=np.int64)


def _first_seen(user: np.ndarray, request: np.ndarray) -> np.ndarray:
    """A number for each (user, request), 0 for the one that comes first, int64 [n]."""
    pairs = np.stack([user, request], axis=1)
    _, first, inverse = np.unique(pairs, axis=0, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return np.asarray(rank[inverse.ravel()])
