"""The frame of an Avro file, without its rows: its schema as Arrow types, as Spark reads them, and how many rows.

An Avro file has no footer: a header with the schema, then blocks of (rows, bytes, data, sync marker). Walking over the
blocks counts the rows and finds a last block that breaks off; one that was never begun cannot be missed.
"""

from __future__ import annotations

import json
from typing import Any, Protocol

import pyarrow as pa

MAGIC, SYNC = b"Obj\x01", 16
PLAIN = {
    "null": pa.null(),
    "boolean": pa.bool_(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "bytes": pa.binary(),
    "string": pa.string(),
}
LOGICAL = {
    "date": pa.date32(),
    "timestamp-millis": pa.timestamp("us", "UTC"),
    "timestamp-micros": pa.timestamp("us", "UTC"),
    "local-timestamp-millis": pa.timestamp("us"),
    "local-timestamp-micros": pa.timestamp("us"),
}


class Stream(Protocol):
    """What is read one byte after the other."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes, fewer at the end."""
        ...


def read_frame(stream: Stream) -> tuple[pa.Schema, int]:
    """The schema and the number of rows. Raises ValueError for a file that breaks off or is no Avro file."""
    if _exactly(stream, 4) != MAGIC:
        raise ValueError("it does not begin as an Avro file does")
    about: dict[str, bytes] = {}
    while (entries := _long(stream)) != 0:
        if entries < 0:
            _long(stream)  # the block's bytes
        for _ in range(abs(entries)):
            key = _exactly(stream, _long(stream)).decode()
            about[key] = _exactly(stream, _long(stream))
    sync, rows = _exactly(stream, SYNC), 0
    while (first := stream.read(1)) != b"":
        rows += _long(stream, first)
        _exactly(stream, _long(stream))
        if _exactly(stream, SYNC) != sync:
            raise ValueError("a block does not end with the file's marker")
    return arrow_schema(json.loads(about["avro.schema"])), rows


def arrow_schema(avro: dict[str, Any]) -> pa.Schema:
    """An Avro record's schema as Arrow's, with the types that Spark gives its columns."""
    return pa.schema(list(_type(avro, {}, "")))


def _type(avro: Any, known: dict[str, pa.DataType], space: str) -> pa.DataType:
    if isinstance(avro, list):
        return _union(avro, known, space)
    if isinstance(avro, str):
        if avro in PLAIN:
            return PLAIN[avro]
        full = avro if "." in avro or not space else f"{space}.{avro}"
        if full not in known:
            raise ValueError(f"its type {avro} holds itself or is not declared")
        return known[full]
    kind, logical = avro["type"], avro.get("logicalType")
    if not isinstance(kind, str) or kind in PLAIN:
        if logical == "decimal" and kind == "bytes":
            return pa.decimal128(avro["precision"], avro.get("scale", 0))
        whole = {"int": ("date",), "long": tuple(name for name in LOGICAL if name != "date")}
        return LOGICAL[logical] if logical in whole.get(str(kind), ()) else _type(kind, known, space)
    if kind == "array":
        return pa.list_(_type(avro["items"], known, space))
    if kind == "map":
        return pa.map_(pa.string(), _type(avro["values"], known, space))
    if kind not in ("record", "enum", "fixed"):
        return _type(kind, known, space)
    name = avro["name"] if "." in avro["name"] else f"{avro.get('namespace', space)}.{avro['name']}".lstrip(".")
    space = name.rpartition(".")[0]
    found: pa.DataType = pa.string() if kind == "enum" else pa.binary()
    if kind == "fixed" and logical == "decimal":
        found = pa.decimal128(avro["precision"], avro.get("scale", 0))
    if kind == "record":
        found = pa.struct([pa.field(f["name"], _type(f["type"], known, space)) for f in avro["fields"]])
    known[name] = found
    return found


def _union(members: list[Any], known: dict[str, pa.DataType], space: str) -> pa.DataType:
    """Null and one other is that other; int and long are long, float and double double; the rest a struct's members."""
    kinds = [_type(m, known, space) for m in members if m != "null"]
    if len(kinds) == 1:
        return kinds[0]
    if set(kinds) == {pa.int32(), pa.int64()}:
        return pa.int64()
    if set(kinds) == {pa.float32(), pa.float64()}:
        return pa.float64()
    return pa.struct([pa.field(f"member{i}", kind) for i, kind in enumerate(kinds)])


def _long(stream: Stream, first: bytes | None = None) -> int:
    """A zigzag number of variable length."""
    value, shift = 0, 0
    byte = first or _exactly(stream, 1)
    while True:
        value |= (byte[0] & 0x7F) << shift
        if not byte[0] & 0x80:
            return (value >> 1) ^ -(value & 1)
        shift += 7
        byte = _exactly(stream, 1)


def _exactly(stream: Stream, size: int) -> bytes:
    data = stream.read(size) if size >= 0 else b""
    if len(data) != size:
        raise ValueError("it breaks off")
    return data
