"""Which raw columns became which columns of the table, with the bytes of both."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lakehouse.report.measure import Measured
from lakehouse.spec import DatasetSpec


@dataclass(frozen=True)
class ColumnBytes:
    """One raw column (or what the table has beside it) in every layout, compressed and decoded."""

    name: str
    kind: str  # key, request, sequence, candidate, label; "added" by reqlake; "unused" by the spec
    sensitive: bool
    raw: int
    time_order: int
    flat_sorted: int
    requests: int
    decoded_flat: int
    decoded_requests: int


def pair_columns(
    spec: DatasetSpec, raw: Measured, ordered: Measured, flat: Measured, requests: Measured
) -> tuple[ColumnBytes, ...]:
    """Every column of both sides once, the largest in the raw log first."""
    sources: dict[str, list[tuple[str, str, bool]]] = {}
    paired: set[str] = set()
    for source, column, kind, sensitive in _sources(spec):
        if source in raw.compressed:
            sources.setdefault(source, []).append((column, kind, sensitive))
            paired.add(column)
    rows = []
    for source in raw.compressed:
        mine = sources.get(source, [])
        rows.append(
            ColumnBytes(
                name=source,
                kind=mine[0][1] if mine else "unused",
                sensitive=any(sensitive for _, _, sensitive in mine),
                raw=raw.compressed[source],
                time_order=ordered.compressed.get(source, 0),
                flat_sorted=flat.compressed.get(source, 0),
                requests=sum(requests.compressed.get(column, 0) for column, _, _ in mine),
                decoded_flat=raw.decoded.get(source, 0),
                decoded_requests=sum(requests.decoded.get(column, 0) for column, _, _ in mine),
            )
        )
    for column, size in requests.compressed.items():
        if column not in paired:
            rows.append(ColumnBytes(column, "added", False, 0, 0, 0, size, 0, requests.decoded.get(column, 0)))
    return tuple(sorted(rows, key=lambda r: (-r.raw, -r.decoded_flat, -r.requests)))


def _sources(spec: DatasetSpec) -> Iterator[tuple[str, str, str, bool]]:
    """(raw column, table column, kind, sensitive) of every column of the table that is read from one."""
    keys = spec.keys
    named: list[tuple[str, str | None, bool]] = [
        ("user_id", keys.user_id.column, keys.user_id.sensitive),
        ("request_id", keys.request_id.column, keys.request_id.sensitive),
        ("item_id", keys.item_id.column, keys.item_id.sensitive),
    ]
    for name, raw, sensitive in named:
        if raw is not None:
            yield raw, name, "key", sensitive
            yield raw, f"{name}_raw", "key", sensitive
    yield keys.request_ts.column, "request_ts", "key", False
    if keys.position is not None:
        yield keys.position, "position", "key", False
    if keys.impression_ts is not None:
        yield keys.impression_ts.column, "impression_ts", "key", False
    if keys.row_version is not None:
        yield keys.row_version, "request_version", "key", False
        yield keys.row_version, "candidate_version", "key", False
    for feature in spec.columns("request", "sequence", "candidate", "label"):
        if feature.feature is not None:
            yield feature.raw, feature.name, feature.role, feature.sensitive
    for name, label in spec.labels.items():
        if label.time is not None:
            yield label.time.column, f"{name}_time", "label", label.sensitive
