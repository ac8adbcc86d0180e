"""SQL views over a request table, generated from its spec: the lake as if nothing had been deduplicated.

Unnest inputs are never pruned by Trino, so narrow views stand beside the flat one. A view's dialect is stored with it,
so each text exists in Trino's (what users write) and in Spark's.

    <dataset>_impressions             every column, one row per impression
    <dataset>_impressions_core        the keys
    <dataset>_impressions_labels      keys and labels
    <dataset>_impressions_request     keys, labels, request features
    <dataset>_impressions_candidate   keys, labels, candidate features
    <dataset>_impressions_<sequence>  keys, labels, one sequence's lists
    <dataset>_latest_requests         each user's latest request
    <dataset>_<sequence>_events       one row per event of each request's sequence
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from lakehouse.errors import SqlError, nearest
from lakehouse.spec import Column, DatasetSpec

Dialect = Literal["trino", "spark"]
QUOTES: dict[str, str] = {"trino": '"', "spark": "`"}


@dataclass(frozen=True)
class View:
    """One view: its name without namespace, what it shows, and the columns that it takes from the request table."""

    name: str
    doc: str
    columns: tuple[Column, ...]
    kind: Literal["impressions", "latest", "events"] = "impressions"

    @property
    def column_names(self) -> list[str]:
        """The view's columns in order."""
        if self.kind == "events":
            return [_event_name(c) for c in self.columns] + ["event_index"]
        return [c.name for c in self.columns]


def views(spec: DatasetSpec) -> dict[str, View]:
    """Every view of the spec by name, without namespace."""
    return {view.name: view for view in _views(spec)}


def _views(spec: DatasetSpec) -> Iterator[View]:
    name = f"{spec.name}_impressions"
    keys, labels = spec.columns("key", "candidate_key"), spec.columns("label")
    request_keys = spec.columns("key")
    request, candidate = spec.columns("request"), spec.columns("candidate")
    sequences = spec.columns("sequence")
    yield View(name, "every impression with its request's columns", (*request_keys, *request, *sequences, *_own(spec)))
    yield View(f"{name}_core", "the keys of every impression", keys)
    yield View(f"{name}_labels", "every impression's labels", (*keys, *labels))
    yield View(f"{name}_request", "labels and request features", (*keys, *labels, *request))
    yield View(f"{name}_candidate", "labels and candidate features", (*keys, *labels, *candidate))
    for group in spec.sequences:
        lists = tuple(c for c in sequences if c.group == group)
        taken = group in ("core", "labels", "request", "candidate")
        yield View(f"{name}_{group}{'_sequence' * taken}", f"labels and the lists of {group}", (*keys, *labels, *lists))
        yield View(f"{spec.name}_{group}_events", f"one row per event of {group}", (*request_keys, *lists), "events")
    yield View(
        f"{spec.name}_latest_requests",
        "each user's latest request",
        (*request_keys, *request, *sequences, *_own(spec)),
        "latest",
    )


def _own(spec: DatasetSpec) -> tuple[Column, ...]:
    return spec.columns("candidate_key", "candidate", "label")


def view_sql(spec: DatasetSpec, name: str, dialect: Dialect = "trino", *, catalog: str | None = None) -> str:
    """The SELECT of one view. Raises SqlError for a name that the spec does not give.

    Tables are written `namespace.table`, with `catalog` before it where one is given.
    """
    known = views(spec)
    if name not in known:
        raise SqlError(f"no view {name!r} of {spec.name}.{nearest(name, known)} There are {', '.join(known)}")
    view, q = known[name], QUOTES[dialect]
    table = ".".join(f"{q}{part}{q}" for part in (*([catalog] if catalog else []), *spec.table("requests").split(".")))
    if view.kind == "latest":
        return _latest(view, table, q)
    listed = [c for c in view.columns if (c.role == "sequence" if view.kind == "events" else c.per_candidate)]
    make = _unnest_trino if dialect == "trino" else _unnest_spark
    return make(view, listed, table)


def _latest(view: View, table: str, q: str) -> str:
    names = ", ".join(f"{q}{c.name}{q}" for c in view.columns)
    order = "request_ts DESC, request_id DESC, request_hash DESC"
    ranked = f"SELECT {names}, row_number() OVER (PARTITION BY user_id ORDER BY {order}) AS latest_rank FROM {table}"
    return f"SELECT {names} FROM ({ranked}) AS ranked WHERE latest_rank = 1"


def _event_name(column: Column) -> str:
    """An event's column: the field's own name, unless a request key has it."""
    if column.role != "sequence" or column.field is None:
        return column.name
    clash = ("user_id", "request_id", "request_ts", "request_hash", "user_id_raw", "request_id_raw", "event_index")
    return column.name if column.field in clash else column.field


def _unnest_trino(view: View, listed: list[Column], table: str) -> str:
    chosen = ", ".join(
        f'{"u" if c in listed else "r"}."{c.name}" AS "{_event_name(c) if view.kind == "events" else c.name}"'
        for c in view.columns
    )
    inputs, names = (", ".join(f'{p}"{c.name}"' for c in listed) for p in ("r.", ""))
    if view.kind == "events":
        ordinal, chosen, names = " WITH ORDINALITY", f"{chosen}, u.event_index", f"{names}, event_index"
    else:
        ordinal = ""
    return f"SELECT {chosen} FROM {table} AS r CROSS JOIN UNNEST({inputs}){ordinal} AS u ({names})"


def _unnest_spark(view: View, listed: list[Column], table: str) -> str:
    # A column that came after the row is null, and so would be what is zipped with it. Zipped expressions are named by
    # their places.
    places = {column.name: place for place, column in enumerate(listed)}
    chosen = ", ".join(
        f"{f'u.event.`{places[c.name]}`' if c.name in places else f'r.`{c.name}`'} "
        f"AS `{_event_name(c) if view.kind == 'events' else c.name}`"
        for c in view.columns
    )
    index = ", u.ordinal + 1L AS event_index" if view.kind == "events" else ""
    zipped = f"arrays_zip({', '.join(f'coalesce(r.`{c.name}`, array())' for c in listed)})"
    return f"SELECT {chosen}{index} FROM {table} AS r LATERAL VIEW posexplode({zipped}) u AS ordinal, event"
