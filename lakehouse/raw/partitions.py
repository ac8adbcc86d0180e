"""Hive's partitions: folders `dt=2026-01-01/country=de/`, whose names hold a column's value for all that is in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.errors import RawDataError
from lakehouse.spec import DatasetSpec
from lakehouse.spec.fields import Feature, TimeColumn

NULL = "__HIVE_DEFAULT_PARTITION__"
Values = tuple[tuple[str, str | None], ...]
ELEMENTS = {"bool": pa.bool_(), "float": pa.float32(), "double": pa.float64(), "string": pa.string()}


def partition_of(path: str) -> tuple[str, Values]:
    """The folder that the partitions of a file begin in, and their values in order: those right above the file."""
    *folders, _ = path.split("/")
    found: list[tuple[str, str | None]] = []
    while folders and folders[-1].find("=") > 0:
        name, _, value = folders.pop().partition("=")
        found.append((unquote(name), None if value == NULL else unquote(value)))
    return "/".join(folders), tuple(reversed(found))


def wanted_types(spec: DatasetSpec) -> dict[str, pa.DataType]:
    """The type that each raw column of a spec is read in, if it is a partition's."""
    keys = spec.keys

    def key(kind: str) -> pa.DataType:
        return pa.string() if kind == "string" else pa.int64()

    found = {keys.user_id.column: key(keys.user_id.type), keys.item_id.column: key(keys.item_id.type)}
    if keys.request_id.column is not None:
        found[keys.request_id.column] = key(keys.request_id.type)
    found |= {name: pa.int64() for name in (keys.position, keys.row_version) if name is not None}
    times = [keys.request_ts, keys.impression_ts, *(label.time for label in spec.labels.values())]
    found |= {time.column: _time(time) for time in times if time is not None}
    for column in spec.columns("request", "sequence", "candidate", "label"):
        if column.feature is not None:
            timed = column.type.element == "timestamp"
            found[column.raw] = _time(column.feature) if timed else ELEMENTS.get(column.type.element, pa.int64())
    return found


def typed(name: str, values: Sequence[str | None], kind: pa.DataType, path: str) -> pa.Array:
    """A partition's values as a column of its type. Raises RawDataError that names `path` and a value."""
    texts = pa.array(values, pa.string())
    try:
        if pa.types.is_timestamp(kind) and kind.tz is not None:
            return pc.assume_timezone(texts.cast(pa.timestamp("us")), kind.tz)
        return texts.cast(kind)
    except pa.ArrowInvalid as error:
        raise RawDataError(
            f"{path}: the partition {name}={values[0]} is read as {kind}, which it is not ({error}): declare "
            f"the column as a string in the spec, or leave these files out"
        ) from error


def guessed(values: Sequence[str | None]) -> pa.DataType:
    """The type of a partition column that no spec speaks of: whole numbers, points in time, else text."""
    for kind in (pa.int64(), pa.timestamp("us")):
        try:
            pa.array(values, pa.string()).cast(kind)
        except pa.ArrowInvalid:
            continue
        return pa.timestamp("us", "UTC") if kind != pa.int64() else kind
    return pa.string()


def with_partitions(
    schema: pa.Schema, values: Values, wanted: Mapping[str, pa.DataType]
) -> tuple[pa.Schema, tuple[str, ...]]:
    """A file's schema with its partitions' columns, and their names; the file's own columns win."""
    names = tuple(name for name, _ in values if name not in schema.names)
    for name in names:
        schema = schema.append(pa.field(name, wanted.get(name, pa.string())))
    return schema, names


def _time(time: TimeColumn | Feature) -> pa.DataType:
    if time.unit is not None:
        return pa.int64()
    return pa.timestamp("us", None if time.zone is not None else "UTC")
