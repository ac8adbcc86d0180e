"""Where the schema ends in a Parquet footer: as much of Thrift's compact protocol as that takes.

Two footers that begin with the same bytes up to there are of the same schema: names, types, nesting and field ids.
"""

from __future__ import annotations

I8, INTEGERS, DOUBLE, BINARY, LISTS, STRUCT = 3, (4, 5, 6), 7, 8, (9, 10), 12
BOOLS = (1, 2)
VERSION, SCHEMA = 1, 2  # the first two fields of a footer


def schema_end(footer: bytes) -> int | None:
    """Bytes of the footer up to the end of its schema; None if it is laid out in some other way."""
    try:
        at = 0
        for field in (VERSION, SCHEMA):
            header = footer[at]
            if header >> 4 != 1 or header & 15 not in (INTEGERS if field == VERSION else LISTS):
                return None
            at = _skip(footer, at + 1, header & 15)
    except (IndexError, ValueError):
        return None
    return at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def _skip(data: bytes, at: int, kind: int) -> int:
    """Where the value of this type that begins at `at` ends."""
    if kind in BOOLS:
        return at  # its type is its value
    if kind == I8:
        return at + 1
    if kind in INTEGERS:
        return _varint(data, at)[1]
    if kind == DOUBLE:
        return at + 8
    if kind == BINARY:
        length, at = _varint(data, at)
        return at + length
    if kind in LISTS:
        header = data[at]
        count, at = (header >> 4, at + 1) if header >> 4 < 15 else _varint(data, at + 1)
        for _ in range(count):
            at = at + 1 if header & 15 in BOOLS else _skip(data, at, header & 15)
        return at
    if kind == STRUCT:
        while header := data[at]:
            at = at + 1 if header >> 4 else _varint(data, at + 1)[1]
            at = _skip(data, at, header & 15)
        return at + 1
    raise ValueError(f"Thrift type {kind} is in no Parquet schema")
