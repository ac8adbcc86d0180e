"""The flat impression view in the shape of the raw log: old column names, old types, so that old queries run on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lakehouse.errors import SqlError, nearest
from lakehouse.spec import DatasetSpec
from lakehouse.spec.fields import TimeColumn
from lakehouse.views import view_sql

UNITS = {"s": 1, "ms": 1_000, "us": 1_000_000}


def flat_log_sql(spec: DatasetSpec, types: Mapping[str, str] | None = None, *, catalog: str | None = None) -> str:
    """The SELECT, in Trino's SQL. `types` are the columns and types of the table whose place the view takes, in order.

    Without them every mapped raw column comes under its raw name, times as the log had them. Raises SqlError for a
    column of that table that the request table does not hold, and for one that lies in a struct.
    """
    sources = dict(_sources(spec))
    wanted = dict(types) if types is not None else dict.fromkeys(sources, "")
    lost = [name for name in wanted if name not in sources]
    if lost:
        hints = "".join(nearest(name, sources) for name in lost[:1])
        raise SqlError(
            f"the request table of {spec.name} does not hold {', '.join(lost)}: map and backfill them, or leave them "
            f"out of the table that the view is to be like.{hints}"
        )
    nested = [name for name in wanted if "." in name]
    if nested:
        raise SqlError(f"{', '.join(nested)}: a column inside a struct has no place in a flat view, name other columns")
    chosen = ", ".join(
        f'CAST({sources[name]} AS {kind}) AS "{name}"' if kind else f'{sources[name]} AS "{name}"'
        for name, kind in wanted.items()
    )
    return f"SELECT {chosen} FROM ({view_sql(spec, f'{spec.name}_impressions', catalog=catalog)}) AS flat"


def _sources(spec: DatasetSpec) -> Iterator[tuple[str, str]]:
    """Raw column names, and what gives their values back."""
    keys = spec.keys
    if not keys.user_id.fallback:
        yield keys.user_id.column, '"user_id_raw"' if keys.user_id.type == "string" else '"user_id"'
    if keys.request_id.column is not None:
        yield keys.request_id.column, '"request_id_raw"' if keys.request_id.type == "string" else '"request_id"'
    yield keys.request_ts.column, _time("request_ts", keys.request_ts)
    yield keys.item_id.column, '"item_id_raw"' if keys.item_id.type == "string" else '"item_id"'
    if keys.position is not None:
        yield keys.position, '"position"'
    if keys.impression_ts is not None:
        yield keys.impression_ts.column, _time("impression_ts", keys.impression_ts)
    for column in spec.columns("request", "sequence", "candidate", "label"):
        if column.feature is not None:
            yield column.raw, f'"{column.name}"'
    for name, label in spec.labels.items():
        if label.time is not None:
            yield label.time.column, _time(f"{name}_time", label.time)


def _time(name: str, raw: TimeColumn) -> str:
    """A time as the raw log had it: an integer since 1970, a time without its zone, or an instant."""
    if raw.unit is not None:
        return f'CAST(round(to_unixtime("{name}") * {UNITS[raw.unit]}) AS bigint)'
    if raw.zone is not None:
        return f"CAST(\"{name}\" AT TIME ZONE '{raw.zone}' AS timestamp(6))"
    return f'"{name}"'
