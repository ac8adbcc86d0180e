"""The type of one feature value: `long`, `list<long>`, `vector<float, 16>`.

A shape says what one request (or one candidate) holds: a scalar, a list of any length, or a vector of a fixed one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
from pydantic import GetCoreSchemaHandler
from pydantic_core import core_schema

Element = Literal["bool", "int", "long", "float", "double", "string", "timestamp"]
Shape = Literal["scalar", "list", "vector"]

ARROW_ELEMENTS: dict[str, pa.DataType] = {
    "bool": pa.bool_(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "string": pa.string(),
    "timestamp": pa.timestamp("us", tz="UTC"),
}
WRITTEN = re.compile(r"^(?:(list)<\s*(\w+)\s*>|(vector)<\s*(\w+)\s*,\s*(\d+)\s*>|(\w+))$")


@dataclass(frozen=True)
class FeatureType:
    """What one value is: an element, and the shape that holds it (`size` of a vector only)."""

    element: Element
    shape: Shape = "scalar"
    size: int | None = None

    @classmethod
    def parse(cls, text: str) -> FeatureType:
        """Read `long`, `list<long>` or `vector<float, 16>`. Raises ValueError naming the types that exist."""
        match = WRITTEN.match(text.strip())
        known = ", ".join(ARROW_ELEMENTS)
        if match is None:
            raise ValueError(f"{text!r} is not a type: write one of {known}, list<T> or vector<T, n>")
        listed, list_element, vector, vector_element, size, scalar = match.groups()
        element = list_element or vector_element or scalar
        if element not in ARROW_ELEMENTS:
            raise ValueError(f"{text!r}: unknown element {element!r}, known are {known}")
        if vector and int(size) < 1:
            raise ValueError(f"{text!r}: a vector has at least one element")
        return cls(element, listed or vector or "scalar", int(size) if vector else None)  # type: ignore[arg-type]

    def __str__(self) -> str:
        if self.shape == "list":
            return f"list<{self.element}>"
        return f"vector<{self.element}, {self.size}>" if self.shape == "vector" else self.element

    @property
    def is_number(self) -> bool:
        """Whether arithmetic on an element makes sense."""
        return self.element in ("int", "long", "float", "double")

    @property
    def is_float(self) -> bool:
        """Whether an element can be NaN."""
        return self.element in ("float", "double")

    def arrow(self) -> pa.DataType:
        """The Arrow type of one value (a vector is stored as a list: Iceberg has no fixed-size one)."""
        element = ARROW_ELEMENTS[self.element]
        return element if self.shape == "scalar" else pa.list_(element)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """Accept the written form, and write it back."""
        read = core_schema.no_info_plain_validator_function(
            lambda value: value if isinstance(value, cls) else cls.parse(str(value))
        )
        return core_schema.json_or_python_schema(
            json_schema=read,
            python_schema=read,
            serialization=core_schema.plain_serializer_function_ser_schema(str, when_used="always"),
        )
