"""How a raw column becomes a column of the request table: which raw types serve, and the Spark expression.

Only casts that lose nothing are made. A cast that can lose a value (long to int) is made where every value survives
it; a row with one that does not is told by a second expression.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from lakehouse.errors import RawDataError, nearest
from lakehouse.spec import FeatureType
from lakehouse.spec.raw_types import held, plain
from spark_jobs.files import RawFile

if TYPE_CHECKING:
    from pyspark.sql import Column

SPARK = {
    "bool": "boolean",
    "int": "int",
    "long": "bigint",
    "float": "float",
    "double": "double",
    "string": "string",
    "timestamp": "timestamp",
}
TO_TIMESTAMP = {"s": "timestamp_seconds", "ms": "timestamp_millis", "us": "timestamp_micros"}


@dataclass(frozen=True)
class Source:
    """A raw column: its path, its Arrow type (plain, the same in every file), and the file it was read from."""

    name: str
    type: pa.DataType
    file: RawFile

    @property
    def head(self) -> str:
        """The top-level raw column that holds it."""
        return self.name if self.name in self.file.schema.names else self.name.split(".")[0]

    def column(self) -> Column:
        """The raw column itself, in Spark."""
        from pyspark.sql import functions as F

        return F.col(self.sql)

    @property
    def sql(self) -> str:
        """The raw column in Spark's SQL."""
        parts = [self.name] if self.name in self.file.schema.names else self.name.split(".")
        return ".".join(f"`{part}`" for part in parts)

    def refuse(self, wanted: str, remedy: str) -> RawDataError:
        """The error of a raw type that cannot become the spec's."""
        return RawDataError(f"{self.file.path}: column {self.name} is {self.type}, the spec wants {wanted}: {remedy}")


def in_all(name: str, files: list[RawFile]) -> bool:
    """Whether every file has a raw column."""
    return all(_type_at(file.schema, name) is not None for file in files)


def find_source(name: str, files: list[RawFile], what: str) -> Source:
    """A raw column by its dotted path. Raises RawDataError: not in some file, or of two types in two files."""
    first: Source | None = None
    for file in files:
        kind = _type_at(file.schema, name)
        if kind is None:
            hint = nearest(name, file.schema.names)
            raise RawDataError(
                f"{file.path} has no column {name} ({what}).{hint} Map the spec to another column, or write the file "
                f"again"
            )
        if first is None:
            first = Source(name, kind, file)
        elif kind != first.type:
            raise RawDataError(
                f"column {name} ({what}) is {kind} in {file.path}, but {first.type} in {first.file.path}: "
                f"write one of them again, or ingest them apart"
            )
    if first is None:
        raise RawDataError(f"no raw files to find column {name} in")
    return first


def typed(source: Source, wanted: FeatureType, unit: str | None, zone: str | None) -> tuple[Column, Column | None]:
    """The column as the spec wants it, and where a cast may lose values, the predicate of rows that it does.

    Raises RawDataError that names file, column and remedy.
    """
    from pyspark.sql import functions as F

    raw, kind = source.column(), source.type
    if wanted.shape == "scalar":
        if pa.types.is_nested(kind):
            raise source.refuse(str(wanted), "declare it as a list or a vector")
        if wanted.element == "timestamp":
            return _time(source, raw, kind, unit, zone), None
        return _numbers(source, raw, kind, wanted, SPARK[wanted.element])
    if not pa.types.is_list(kind):
        raise source.refuse(str(wanted), "a list or vector needs a list column")
    element = kind.value_type
    if pa.types.is_nested(element):
        raise source.refuse(str(wanted), "reach into a list of structs with a dotted path, list.field")
    if wanted.element == "timestamp":
        if _is_instant(element):
            return raw, None
        return F.transform(raw, lambda x: _time(source, x, element, unit, zone)), None
    return _numbers(source, raw, element, wanted, f"array<{SPARK[wanted.element]}>")


def time_of(source: Source, unit: str | None, zone: str | None) -> Column:
    """A point in time as timestamp, UTC."""
    return _time(source, source.column(), source.type, unit, zone)


def _numbers(
    source: Source, raw: Column, element: pa.DataType, wanted: FeatureType, target: str
) -> tuple[Column, Column | None]:
    from pyspark.sql import functions as F

    serves = held(element, wanted.element)
    if str(element) == wanted.element or (str(element), wanted.element) in (("int32", "int"), ("int64", "long")):
        return raw, None
    if serves == "all":
        return raw.cast(target), None
    if serves == "some":
        cast, back = f"try_cast({source.sql} AS {target})", "array<bigint>" if target.startswith("array") else "bigint"
        return F.expr(cast), ~F.expr(f"try_cast({cast} AS {back})").eqNullSafe(raw.cast(back))
    if str(element) == "double" and wanted.element == "float":
        raise source.refuse(str(wanted), "declare it as double, or write the log with 32-bit floats")
    if str(element) == "string":
        raise source.refuse(str(wanted), "declare it as string, or write the log with numbers")
    raise source.refuse(str(wanted), "declare a type that holds every value of it")


def _is_instant(kind: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(kind) and kind.tz is not None)


def _time(source: Source, raw: Column, kind: pa.DataType, unit: str | None, zone: str | None) -> Column:
    from pyspark.sql import functions as F

    if _is_instant(kind):
        return raw
    if pa.types.is_timestamp(kind):
        if zone is None:
            raise source.refuse("a time with a zone", "it has none, so declare it in the spec, as in `zone: UTC`")
        utc = F.convert_timezone(F.lit(zone), F.lit("UTC"), raw)
        return utc.cast("timestamp")
    if pa.types.is_integer(kind):
        if unit is None:
            raise source.refuse("a time", "an integer needs its unit in the spec, as in `unit: ms` (s, ms or us)")
        return F.call_function(TO_TIMESTAMP[unit], raw.cast("bigint"))
    raise source.refuse("a time", "write a timestamp, or an integer with a unit in the spec")


def _type_at(schema: pa.Schema, name: str) -> pa.DataType | None:
    if name in schema.names:
        return plain(schema.field(name).type)
    head, *rest = name.split(".")
    if head not in schema.names or not rest:
        return None
    kind, lists = plain(schema.field(head).type), 0
    for part in rest:
        while pa.types.is_list(kind):
            kind, lists = kind.value_type, lists + 1
        if not pa.types.is_struct(kind) or kind.get_field_index(part) < 0:
            return None
        kind = kind.field(part).type
    for _ in range(lists):
        kind = pa.list_(kind)
    return kind
