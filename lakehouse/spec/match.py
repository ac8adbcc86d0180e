"""Whether a raw log has what a spec reads from it: names, types, units and zones, from the schema alone.

The ingest job reads by the same rules; here they are checked in a second and without Spark, before a job is started.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from lakehouse.errors import nearest
from lakehouse.spec.dataset import DatasetSpec
from lakehouse.spec.fields import Feature, IdColumn, TimeColumn
from lakehouse.spec.guess import element_of
from lakehouse.spec.raw_types import held
from lakehouse.spec.sample import is_list


@dataclass(frozen=True)
class Mismatch:
    """One place of a spec that the raw log does not fit, and what to do."""

    place: str
    problem: str

    def __str__(self) -> str:
        return f"{self.place}: {self.problem}"


def mismatches(spec: DatasetSpec, schema: pa.Schema) -> list[Mismatch]:
    """Everything that keeps a log of this schema from being ingested by the spec; empty where it fits."""
    columns = dict(_paths(schema))
    return [found for reader in (_keys, _features) for found in reader(spec, columns)]


def unread(spec: DatasetSpec, schema: pa.Schema) -> list[str]:
    """Columns of the log that no part of the spec reads: they are dropped by an ingest."""
    keys = spec.keys
    read = {c.raw for c in spec.columns("request", "sequence", "candidate", "label")}
    read |= {t.time.column for t in spec.labels.values() if t.time}
    read |= {keys.user_id.column, *keys.user_id.fallback, keys.request_ts.column, keys.item_id.column}
    read |= {c for c in (keys.request_id.column, keys.position, keys.row_version) if c}
    read |= {keys.impression_ts.column} if keys.impression_ts else set()
    return [name for name, _ in _paths(schema) if name not in read]


def _paths(schema: pa.Schema) -> Iterator[tuple[str, pa.DataType]]:
    """Every leaf as a spec names it: structs and lists of structs by dotted paths."""
    for field in schema:
        yield from _leaves(field.name, field.type)


def _leaves(path: str, kind: pa.DataType) -> Iterator[tuple[str, pa.DataType]]:
    inner = kind.value_type if is_list(kind) else kind
    if pa.types.is_struct(inner):
        for field in inner:
            listed = pa.list_(field.type) if is_list(kind) else field.type
            yield from _leaves(f"{path}.{field.name}", listed)
    else:
        yield path, kind


def _keys(spec: DatasetSpec, columns: dict[str, pa.DataType]) -> Iterator[Mismatch]:
    keys = spec.keys
    ids: list[tuple[str, IdColumn]] = [("keys.user_id", keys.user_id), ("keys.item_id", keys.item_id)]
    for place, column in ids:
        yield from _id(place, column.column, column.type, columns)
    for column_ in keys.user_id.fallback:
        yield from _known("keys.user_id.fallback", column_, columns)
    if keys.request_id.column is not None:
        yield from _id("keys.request_id", keys.request_id.column, keys.request_id.type, columns)
    times = [("keys.request_ts", keys.request_ts), ("keys.impression_ts", keys.impression_ts)]
    times += [(f"labels.{name}.time", label.time) for name, label in spec.labels.items()]
    for place, time in times:
        if time is not None:
            yield from _time(place, time, columns)
    for place, name in (("keys.position", keys.position), ("keys.row_version", keys.row_version)):
        if name is not None:
            yield from _id(place, name, "long", columns)


def _features(spec: DatasetSpec, columns: dict[str, pa.DataType]) -> Iterator[Mismatch]:
    for column in spec.columns("request", "sequence", "candidate", "label"):
        if column.feature is None:
            continue  # a label's time, read with the keys
        parts = {"request": "request_features", "candidate": "candidate_features", "label": "labels"}
        place = f"sequences.{column.group}.{column.field}" if column.group else f"{parts[column.role]}.{column.name}"
        missing = list(_known(place, column.raw, columns))
        yield from missing
        if missing:
            continue
        kind, wanted = columns[column.raw], column.type
        if is_list(kind) != (wanted.shape != "scalar"):
            yield Mismatch(place, f"the spec says {wanted}, the raw column {column.raw!r} is {kind}. Correct the type")
            continue
        inner = kind.value_type if is_list(kind) else kind
        if is_list(inner):
            yield Mismatch(place, f"the raw column {column.raw!r} is {kind}: lists of lists have no type in a spec")
        elif wanted.element == "timestamp":
            yield from _moment(place, column.raw, inner, column.feature)
        elif not held(inner, wanted.element):
            yield Mismatch(place, f"the spec says {wanted}, the raw column {column.raw!r} is {kind}. Correct the type")


def _known(place: str, name: str, columns: dict[str, pa.DataType]) -> Iterator[Mismatch]:
    if name not in columns:
        yield Mismatch(place, f"the raw log has no column {name!r}.{nearest(name, columns)} Set `column`, or remove it")


def _id(place: str, name: str, wanted: str, columns: dict[str, pa.DataType]) -> Iterator[Mismatch]:
    missing = list(_known(place, name, columns))
    yield from missing
    if not missing and not held(columns[name], wanted):
        other = "string" if element_of(columns[name]) == "string" else "long"
        remedy = f"write {{column: {name}, type: {other}}}" if other != wanted else "name an integer or a string column"
        yield Mismatch(place, f"the spec says {wanted}, the raw column {name!r} is {columns[name]}: {remedy}")


def _time(place: str, time: TimeColumn, columns: dict[str, pa.DataType]) -> Iterator[Mismatch]:
    missing = list(_known(place, time.column, columns))
    yield from missing
    if not missing:
        yield from _moment(place, time.column, columns[time.column], time)


def _moment(place: str, name: str, kind: pa.DataType, time: TimeColumn | Feature) -> Iterator[Mismatch]:
    """A timestamp needs microseconds and a zone, an integer its unit."""
    if pa.types.is_timestamp(kind):
        if kind.unit == "ns":
            yield Mismatch(place, f"{name!r} is in nanoseconds, which Spark refuses: rewrite it in microseconds")
        if kind.tz is None and time.zone is None:
            yield Mismatch(place, f"{name!r} has no time zone: say which it is in, for example zone: UTC")
        if time.unit is not None:
            yield Mismatch(place, f"{name!r} is a timestamp already: remove unit")
    elif pa.types.is_integer(kind):
        if time.unit is None:
            yield Mismatch(place, f"{name!r} is {kind}: say what it counts since 1970, unit: s, ms or us")
    else:
        yield Mismatch(place, f"{name!r} is {kind}, which is no time: name a timestamp or integer column")
