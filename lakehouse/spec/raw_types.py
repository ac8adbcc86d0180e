"""Which raw types can become which of the spec's elements: one table for `spec check` and for the ingest."""

from __future__ import annotations

from typing import Literal

import pyarrow as pa

# Raw type: the elements that hold each of its values, then those that hold some of them.
HELD: dict[str, tuple[set[str], set[str]]] = {
    "bool": ({"bool", "int", "long", "float", "double"}, set()),
    "int8": ({"int", "long", "float", "double"}, set()),
    "int16": ({"int", "long", "float", "double"}, set()),
    "int32": ({"int", "long", "double"}, {"float"}),
    "int64": ({"long"}, {"int", "float", "double"}),
    "float": ({"float", "double"}, set()),
    "double": ({"double"}, set()),
    "string": ({"string"}, set()),
}
AS_SIGNED = {"uint8": "int16", "uint16": "int32", "uint32": "int64"}


def plain(kind: pa.DataType) -> pa.DataType:
    """The type as Parquet and Spark know it: no dictionaries, no large or fixed-size variants."""
    if pa.types.is_dictionary(kind):
        return plain(kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return pa.list_(plain(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(f.name, plain(f.type)) for f in kind])
    return kind


def held(raw: pa.DataType, element: str) -> Literal["all", "some"] | None:
    """How many values of a raw scalar type the spec's element holds; None where it does not serve. Not for times."""
    name = str(plain(raw))
    whole, some = HELD.get(AS_SIGNED.get(name, name), (set(), set()))
    return "all" if element in whole else "some" if element in some else None
