"""Plain requests (dicts) as a batch: what a caller of the engine has before there is a table.

A request is a dict like a row of the request table: keys, request features, sequence columns as lists
(`history_item_id: [...]`), candidate columns as parallel lists (`item_id: [...]`). Times are datetimes (with a zone) or
microseconds. What is left out is missing; keys default to 0, `position` to the place in the list, `request_ts` to now.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_reader import Jagged, RequestBatch
from feature_reader.layout import hash_string
from lakehouse.errors import nearest
from lakehouse.spec import Column, DatasetSpec, FeatureType
from serving.errors import RequestError

INTEGERS = {"int": np.int32, "long": np.int64, "bool": np.bool_, "string": np.int64, "timestamp": np.int64}


def batch_of(requests: Sequence[Mapping[str, Any]], spec: DatasetSpec, columns: Iterable[str]) -> RequestBatch:
    """The requests as a batch of the named columns (keys always). Raises RequestError that names request and field."""
    keys = ("user_id", "request_id", "request_ts", "request_hash", "item_id", "position")
    wanted = [spec.column(name) for name in dict.fromkeys((*keys, *columns))]
    known = {c.name for c in spec.columns()}
    counts = []
    for i, request in enumerate(requests):
        for name in request:
            if name not in known:
                raise RequestError(f"request {i}: unknown field {name!r}.{nearest(name, known)}")
        if "item_id" not in request:
            raise RequestError(f"request {i}: no item_id, give the list of its candidates' ids")
        counts.append(len(request["item_id"]))
    defaults = {"user_id": 0, "request_id": 0, "request_hash": 0, "request_ts": int(time.time() * 1_000_000)}
    candidate_offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    request_columns: dict[str, np.ndarray | Jagged] = {}
    candidate_columns: dict[str, np.ndarray | Jagged] = {}
    lengths: dict[str, np.ndarray] = {}
    for column in wanted:
        rows = [request.get(column.name, defaults.get(column.name)) for request in requests]
        if not column.per_candidate:
            array = _array(rows, column)
            if column.group is not None and isinstance(array, Jagged):
                offsets = lengths.setdefault(column.group, array.offsets)
                if not np.array_equal(offsets, array.offsets):
                    i = int(np.flatnonzero(np.diff(offsets) != np.diff(array.offsets))[0])
                    raise RequestError(
                        f"request {i}: the lists of {column.group!r} differ in length at {column.name!r}"
                    )
                array = Jagged(array.values, offsets)
            request_columns[column.name] = array
            continue
        flat: list[Any] = []
        for i, (row, count) in enumerate(zip(rows, counts, strict=True)):
            own = (range(count) if column.name == "position" else [None] * count) if row is None else row
            if len(own) != count:
                raise RequestError(f"request {i}: {column.name!r} has {len(own)} entries for {count} candidates")
            flat += own
        candidate_columns[column.name] = _array(flat, column)
    return RequestBatch(request_columns, candidate_columns, candidate_offsets)


def _array(rows: list[Any], column: Column) -> np.ndarray | Jagged:
    kind = column.type
    default = column.feature.default if column.feature else None
    if kind.shape == "scalar":
        return _elements(rows, kind, column.name, default)
    lists = [[] if row is None else list(row) for row in rows]
    if kind.shape == "list":
        offsets = np.concatenate([[0], np.cumsum([len(row) for row in lists])]).astype(np.int64)
        return Jagged(_elements([x for row in lists for x in row], kind, column.name, default), offsets)
    size = kind.size or 1
    for i, row in enumerate(lists):
        if row and len(row) != size:
            raise RequestError(f"{column.name!r}: entry {i} has {len(row)} numbers, not {size}")
    flat = [x for row in lists for x in (row or [None] * size)]
    return _elements(flat, kind, column.name, default).reshape(-1, size)


def _elements(values: list[Any], kind: FeatureType, name: str, default: Any) -> np.ndarray:
    values = [default if v is None else v for v in values]
    try:
        if kind.element == "string":
            return np.array([_hash(v) for v in values], np.int64)
        array = pa.array(values, FeatureType(kind.element).arrow())
    except (pa.ArrowInvalid, pa.ArrowTypeError, AttributeError) as error:
        raise RequestError(f"{name!r} takes {kind}: {error}") from error
    if kind.is_float:
        return np.array(pc.fill_null(array, float("nan")), np.float32 if kind.element == "float" else np.float64)
    if kind.element == "timestamp":
        array = array.cast(pa.int64())
    return np.array(pc.fill_null(array, False if kind.element == "bool" else 0), INTEGERS[kind.element])


def _hash(text: str | int | None) -> int:
    """A string as the table holds it: xxhash64 of its UTF-8 (seed 42), signed; ids that are hashed already pass."""
    if text is None or isinstance(text, int):
        return text or 0
    return hash_string(text)
