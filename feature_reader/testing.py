"""For tests of what uses the reader: equal batches, hypothesis strategies for specs, tables and batches, and committed
deletes.

`hypothesis` is imported on use: `pip install 'reqlake[dev]'`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from feature_reader.arrays import offsets_of
from feature_reader.batch import Jagged, RequestBatch
from feature_reader.delete_commits import delete_equal, delete_positions
from feature_reader.layout import ELEMENTS
from lakehouse.errors import NotInstalledError
from lakehouse.schema import arrow_schema
from lakehouse.spec import Column, DatasetSpec, parse_spec

__all__ = ["assert_batches_equal", "batches", "delete_equal", "delete_positions", "specs", "tables"]
SCALARS = ("bool", "int", "long", "float", "double", "string", "timestamp")


def assert_batches_equal(a: RequestBatch, b: RequestBatch) -> None:
    """Raises AssertionError that names the first column in which two batches differ; NaN equals NaN."""
    a, b = a.numpy(), b.numpy()
    _same("candidate_offsets", a.candidate_offsets, b.candidate_offsets)
    if a.padding != b.padding:
        raise AssertionError(f"padding: {a.padding} and {b.padding}")
    for part in ("request", "candidates"):
        left, right = getattr(a, part), getattr(b, part)
        if list(left) != list(right):
            raise AssertionError(f"{part}: columns {list(left)} and {list(right)}")
        for name in left:
            if isinstance(left[name], Jagged) != isinstance(right[name], Jagged):
                raise AssertionError(f"{name}: one is jagged, one is not")
            if isinstance(left[name], Jagged):
                _same(f"{name}.offsets", left[name].offsets, right[name].offsets)
                _same(f"{name}.values", left[name].values, right[name].values)
            else:
                _same(name, left[name], right[name])


def _same(name: str, a: np.ndarray, b: np.ndarray) -> None:
    if a.dtype != b.dtype or a.shape != b.shape:
        raise AssertionError(f"{name}: {a.dtype}{list(a.shape)} and {b.dtype}{list(b.shape)}")
    if not np.array_equal(a, b, equal_nan=a.dtype.kind == "f"):
        raise AssertionError(f"{name}: {a!r} and {b!r}")


def specs() -> Any:
    """A strategy for `DatasetSpec`: any mix of shapes, with and without sequences, positions and impression times."""
    st = _strategies()
    element = st.sampled_from(SCALARS)
    shaped = st.one_of(
        element,
        element.map(lambda e: f"list<{e}>"),
        st.builds(lambda e, n: f"vector<{e}, {n}>", st.sampled_from(("float", "long")), st.integers(1, 5)),
    )

    @st.composite  # type: ignore[untyped-decorator]
    def build(draw: Any) -> DatasetSpec:
        keys: dict[str, Any] = {
            "user_id": {"column": "u", "type": draw(st.sampled_from(("long", "string")))},
            "request_id": {"column": "r", "type": draw(st.sampled_from(("long", "string")))},
            "request_ts": "t",
            "item_id": "i",
        }
        if draw(st.booleans()):
            keys["impression_ts"] = "shown"
        sequences = {
            f"seq{n}": {"fields": {f"f{k}": draw(element) for k in range(draw(st.integers(1, 3)))}}
            for n in range(draw(st.integers(0, 2)))
        }
        return parse_spec(
            {
                "name": "made",
                "keys": keys,
                "request_features": {f"r{n}": draw(shaped) for n in range(draw(st.integers(0, 3)))},
                "sequences": sequences,
                "candidate_features": {f"c{n}": draw(shaped) for n in range(draw(st.integers(0, 3)))},
                "labels": {f"l{n}": "float" for n in range(draw(st.integers(1, 2)))},
            }
        )

    return build()


def batches(spec: DatasetSpec, *, max_requests: int = 8, max_candidates: int = 6, max_history: int = 10) -> Any:
    """A strategy for `RequestBatch` of a spec: empty histories, single candidates and NaN labels included."""
    st = _strategies()
    columns = [c for c in spec.columns() if c.role != "rank" and not c.name.endswith("_raw")]
    columns = [c for c in columns if c.role != "label" or c.name in spec.labels]

    @st.composite  # type: ignore[untyped-decorator]
    def build(draw: Any) -> RequestBatch:
        requests = draw(st.integers(1, max_requests))
        rng = np.random.default_rng(draw(st.integers(0, 1 << 32)))
        candidate_offsets = offsets_of(rng.integers(1, max_candidates + 1, requests))
        histories = {name: offsets_of(rng.integers(0, max_history + 1, requests)) for name in spec.sequences}
        request: dict[str, Any] = {}
        candidates: dict[str, Any] = {}
        for column in columns:
            if column.group is not None:
                offsets = histories[column.group]
                request[column.name] = Jagged(_values(column, int(offsets[-1]), rng), offsets)
            elif column.per_candidate:
                candidates[column.name] = _column(column, int(candidate_offsets[-1]), spec, rng)
            else:
                request[column.name] = _column(column, requests, spec, rng)
        return RequestBatch(request, candidates, candidate_offsets)

    return build()


def tables(spec: DatasetSpec, *, max_requests: int = 8, max_candidates: int = 6, max_history: int = 10) -> Any:
    """A strategy for rows of a spec's request table, as `arrow_schema(spec)` has them: unique requests, lists of one
    group of one length, nulls wherever the schema allows them inside, empty tables and empty histories included.
    """
    st = _strategies()
    schema = arrow_schema(spec)

    @st.composite  # type: ignore[untyped-decorator]
    def build(draw: Any) -> pa.Table:
        requests = draw(st.integers(0, max_requests))
        rng = np.random.default_rng(draw(st.integers(0, 1 << 32)))
        share = draw(st.sampled_from((0.0, 0.3)))
        candidates = rng.integers(1, max_candidates + 1, requests)
        histories = {name: rng.integers(0, max_history + 1, requests) for name in spec.sequences}
        columns = []
        for column in spec.columns():
            nulls = share if column.role in ("request", "candidate", "sequence", "label") else 0.0
            lengths = candidates if column.per_candidate else histories.get(column.group or "")
            if column.name == "request_id":
                values: list[Any] = list(range(requests))
            elif lengths is None:
                values = [_cell(column, rng, nulls) for _ in range(requests)]
            else:
                values = [[_cell(column, rng, nulls) for _ in range(length)] for length in lengths]
            columns.append(pa.array(values, schema.field(column.name).type))
        return pa.table(columns, schema=schema)

    return build()


def _cell(column: Column, rng: np.random.Generator, nulls: float) -> Any:
    """A value of a column as Python has it, `nulls` of them None."""
    if rng.random() < nulls:
        return None
    shape = column.type.shape if column.group is None else "scalar"
    if shape == "scalar":
        return _scalar(column.type.element, rng)
    size = column.type.size or 0 if shape == "vector" else int(rng.integers(0, 4))
    return [_scalar(column.type.element, rng) for _ in range(size)]


def _scalar(element: str, rng: np.random.Generator) -> Any:
    if element == "string":
        return f"s{rng.integers(0, 50)}"
    if element in ("float", "double"):
        return float(np.float32(rng.normal()))
    return bool(rng.integers(0, 2)) if element == "bool" else int(rng.integers(0, 1000))


def _column(column: Column, rows: int, spec: DatasetSpec, rng: np.random.Generator) -> np.ndarray | Jagged:
    if column.name in spec.labels:
        return rng.choice(np.array([0, 1, np.nan], dtype=np.float32), rows)
    if column.type.shape == "list":
        offsets = offsets_of(rng.integers(0, 4, rows))
        return Jagged(_values(column, int(offsets[-1]), rng), offsets)
    if column.type.shape == "vector":
        size = column.type.size or 0
        return _values(column, rows * size, rng).reshape(rows, size)
    return _values(column, rows, rng)


def _values(column: Column, count: int, rng: np.random.Generator) -> np.ndarray:
    dtype = ELEMENTS[column.type.element]
    if dtype.kind == "f":
        return rng.normal(size=count).astype(dtype)
    high = 2 if dtype.kind == "b" else 1000
    return rng.integers(0, high, count).astype(dtype)


def _strategies() -> Any:
    try:
        from hypothesis import strategies
    except ModuleNotFoundError as error:
        raise NotInstalledError("hypothesis", "dev") from error
    return strategies
