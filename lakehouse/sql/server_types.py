"""Trino's types as Arrow's, and Python values of its client as Arrow takes them: the types that embedded SQL gives."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from lakehouse.errors import SqlError

SCALARS: dict[str, pa.DataType] = {
    "boolean": pa.bool_(),
    "tinyint": pa.int8(),
    "smallint": pa.int16(),
    "integer": pa.int32(),
    "bigint": pa.int64(),
    "real": pa.float32(),
    "double": pa.float64(),
    "varchar": pa.string(),
    "char": pa.string(),
    "json": pa.string(),
    "varbinary": pa.binary(),
    "date": pa.date32(),
    "unknown": pa.null(),
}
CALL = re.compile(r"^(\w+)(?:\((.*)\))?(.*)$", re.DOTALL)


def arrow_type(name: str) -> pa.DataType:
    """The Arrow type of a Trino type's name. Raises SqlError for one that no result carries over."""
    text = name.strip().lower()
    found = CALL.match(text)
    head, inner, tail = found.groups() if found else (text, None, "")
    if head == "array" and inner:
        return pa.list_(arrow_type(inner))
    if head == "map" and inner:
        key, value = _split(inner)
        return pa.map_(arrow_type(key), arrow_type(value))
    if head == "row" and inner:
        return pa.struct([_field(part, i) for i, part in enumerate(_split(inner))])
    if head == "decimal" and inner:
        precision, scale = (int(n) for n in inner.split(","))
        return pa.decimal128(precision, scale)
    if head == "timestamp":
        return pa.timestamp("us", "UTC" if "with time zone" in tail else None)
    if head in SCALARS:
        return SCALARS[head]
    raise SqlError(f"a result of type {name} has no place in Arrow: cast it to varchar")


def batch_of(schema: pa.Schema, rows: Sequence[Sequence[Any]]) -> pa.RecordBatch:
    """Rows of the client as one record batch."""
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(schema)
    arrays = [
        pa.array([_value(v, field.type) for v in column], field.type)
        for column, field in zip(columns, schema, strict=True)
    ]
    return pa.record_batch(arrays, schema=schema)


def _value(value: Any, kind: pa.DataType) -> Any:
    """Structs by name; all else is as Arrow takes it."""
    if value is None or not pa.types.is_nested(kind):
        return value
    if pa.types.is_struct(kind):
        return {field.name: _value(v, field.type) for field, v in zip(kind, value, strict=True)}
    if pa.types.is_map(kind):
        return [(k, _value(v, kind.item_type)) for k, v in value.items()]
    return [_value(v, kind.value_type) for v in value]


def _field(text: str, index: int) -> pa.Field:
    """A row's field: `name type`, or a type alone."""
    quoted = re.match(r'^"((?:[^"]|"")*)"\s+(.*)$', text, re.DOTALL)
    if quoted:
        return pa.field(quoted[1].replace('""', '"'), arrow_type(quoted[2]))
    name, _, kind = text.partition(" ")
    whole = not kind or kind.startswith(("with time zone", "without time zone"))
    return pa.field(f"field{index}", arrow_type(text)) if whole else pa.field(name, arrow_type(kind))


def _split(text: str) -> list[str]:
    """The parts between the commas of the outermost level."""
    return list(_parts(text))


def _parts(text: str) -> Iterator[str]:
    depth, start = 0, 0
    for i, c in enumerate(text):
        depth += (c == "(") - (c == ")")
        if c == "," and not depth:
            yield text[start:i].strip()
            start = i + 1
    yield text[start:].strip()
