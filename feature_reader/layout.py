"""Which columns a reader reads and what each becomes in a batch: the spec's columns, by Iceberg field id.

A name is looked up once, in the table's current schema; files are matched by the id alone, so that renamed, added and
widened columns need no care anywhere else.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xxhash
from pyiceberg.schema import Schema

from feature_reader.errors import ReaderError
from lakehouse.errors import nearest
from lakehouse.spec import Column, DatasetSpec

ELEMENTS: dict[str, np.dtype[Any]] = {
    "bool": np.dtype(np.bool_),
    "int": np.dtype(np.int32),
    "long": np.dtype(np.int64),
    "float": np.dtype(np.float32),
    "double": np.dtype(np.float64),
    "string": np.dtype(np.int64),
    "timestamp": np.dtype(np.int64),
}
ANCHOR = "item_id"


def hash_string(text: str) -> int:
    """The id of a string in a batch: xxhash64 of its UTF-8, seed 42, as a signed int64 (Spark's `xxhash64`)."""
    value = xxhash.xxh64_intdigest(text.encode(), 42)
    return value - (1 << 64) if value >= 1 << 63 else value


@dataclass(frozen=True)
class Field:
    """One column of the batch: where it is read from, and how."""

    name: str
    field_id: int
    part: Literal["request", "candidate"]
    group: str | None
    element: str
    shape: Literal["scalar", "list", "vector"]
    size: int
    dtype: np.dtype[Any]
    fill: Any
    """What a null becomes."""

    @property
    def listed(self) -> int:
        """How many lists the table wraps around a value: one for candidates, one for a list or vector."""
        return (self.part == "candidate") + (self.shape != "scalar")


@dataclass(frozen=True)
class Layout:
    """The fields that a batch holds (`fields`), and those that are read to know rows' lengths only (`anchors`)."""

    fields: tuple[Field, ...]
    anchors: tuple[Field, ...]

    @property
    def read(self) -> tuple[Field, ...]:
        """Every field that is read."""
        return self.fields + self.anchors

    def part(self, part: Literal["request", "candidate"]) -> tuple[Field, ...]:
        """The fields of the requests, or of the candidates."""
        return tuple(f for f in self.fields if f.part == part)


def build_layout(spec: DatasetSpec, schema: Schema, columns: Iterable[str] | None) -> Layout:
    """The layout of a batch with these columns, or with every column that a model may want.

    The default leaves out the writer's own columns (ranks, versions), the original strings of ids, and the labels'
    times; each can be named. Raises ReaderError for a name that the spec or the table does not have.
    """
    names = default_columns(spec) if columns is None else list(dict.fromkeys(columns))
    known = [c.name for c in spec.columns()]
    for name in names:
        if name not in known:
            raise ReaderError(f"no column {name!r} in {spec.table()}.{nearest(name, known)} It has {', '.join(known)}")
    chosen = [c for c in spec.columns() if c.name in names]
    fields = tuple(_field(column, spec, schema) for column in chosen)
    anchors: tuple[Field, ...] = ()
    if any(f.part == "candidate" for f in fields) and all(f.name != ANCHOR for f in fields):
        anchors = (_field(spec.column(ANCHOR), spec, schema),)
    return Layout(fields, anchors)


def default_columns(spec: DatasetSpec) -> list[str]:
    """The names of the columns that a model may want."""
    return [c.name for c in spec.columns() if _is_default(c, spec)]


def sequence_siblings(spec: DatasetSpec, schema: Schema) -> dict[str, tuple[Field, ...]]:
    """Every sequence's fields: a sibling tells the rows' lengths where a file lacks the wanted field."""
    groups: dict[str, tuple[Field, ...]] = {}
    for column in spec.columns("sequence"):
        if column.group is not None and column.name in schema.column_names:
            groups[column.group] = (*groups.get(column.group, ()), _field(column, spec, schema))
    return groups


def measured_lists(
    batch_by: str, schema: Schema, siblings: dict[str, tuple[Field, ...]]
) -> tuple[tuple[int, ...], ...]:
    """Field ids of the lists whose lengths are a request's size in candidates or tokens; alternatives together."""
    if batch_by == "requests":
        return ()
    candidates = ((schema.find_field(ANCHOR).field_id,),)
    if batch_by == "candidates":
        return candidates
    return candidates + tuple(tuple(f.field_id for f in fields) for fields in siblings.values())


def _is_default(column: Column, spec: DatasetSpec) -> bool:
    if column.role == "rank" or column.name in ("user_id_raw", "request_id_raw", "item_id_raw"):
        return False
    return column.role != "label" or column.name in spec.labels


def _field(column: Column, spec: DatasetSpec, schema: Schema) -> Field:
    try:
        nested = schema.find_field(column.name)
    except ValueError as error:
        raise ReaderError(
            f"the spec of {spec.table()} has a column {column.name!r} that the table's schema lacks: "
            f"name the columns to read, or add it to the table"
        ) from error
    is_label = column.role == "label" and column.name in spec.labels
    dtype = np.dtype(np.float32) if is_label else ELEMENTS[column.type.element]
    default = column.feature.default if column.feature is not None and not is_label else None
    if default is None and not is_label:
        default = nested.initial_default
    return Field(
        column.name,
        nested.field_id,
        "candidate" if column.per_candidate else "request",
        column.group,
        column.type.element,
        column.type.shape,
        column.type.size or 0,
        dtype,
        _fill(default, dtype),
    )


def _fill(default: Any, dtype: np.dtype[Any]) -> Any:
    if isinstance(default, str):
        return hash_string(default)
    if default is not None:
        return dtype.type(default)
    return dtype.type(np.nan) if dtype.kind == "f" else dtype.type(0)
