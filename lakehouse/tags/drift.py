"""Drift of features between two training sets by the population stability index.

PSI = sum over bins of (q - p) ln(q / p), p and q the shares of the earlier and the later set. Numbers are binned by the
earlier set's deciles, everything else by its twenty most frequent values and the rest; null is a bin of its own. A list
is judged by its elements and, apart, by its length. By custom, below 0.1 nothing moved, above 0.25 much did.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.table import Table

from lakehouse.chosen_users import chosen_users
from lakehouse.spec import Column, DatasetSpec
from lakehouse.tags.rows import read_tasks

BINS, FREQUENT = 10, 20
SMOOTH = 1e-4
"""Share that an empty bin counts as, or the index of a value that is new would be infinite."""
Values: TypeAlias = Any  # a pa.ChunkedArray or pa.Array, which have no types


@dataclass(frozen=True)
class Drift:
    """One feature's index; `values` are null and non-null values of the earlier and the later set."""

    column: str
    part: Literal["value", "length"]
    psi: float
    values: tuple[int, int]
    bins: tuple[tuple[str, float, float], ...]
    """(bin, its share of the earlier set, of the later)."""

    @property
    def verdict(self) -> str:
        """`steady`, `moved`, or `moved much`."""
        return "steady" if self.psi < 0.1 else "moved" if self.psi < 0.25 else "moved much"


@dataclass(frozen=True)
class LabelRate:
    """A label's mean over the candidates for which it is known, before and after, and how many those are."""

    label: str
    before: float | None
    after: float | None
    known: tuple[int, int]


def feature_drift(
    table: Table, spec: DatasetSpec, before: int, after: int, *, share: float = 1.0
) -> tuple[list[Drift], list[LabelRate]]:
    """Drift of every feature that both snapshots have, largest first, and each label's rate.

    `share` of the users are read, the same in both, chosen by hash. One column is held at a time.
    """
    found: list[Drift] = []
    rates: list[LabelRate] = []
    have = [{f.name for f in table.scan(snapshot_id=s).projection().fields} for s in (before, after)]
    for column in spec.columns("request", "sequence", "candidate", "label"):
        if not all(column.name in names for names in have) or column.type.element == "timestamp":
            continue
        old, new = (_column(table, snapshot, column.name, share) for snapshot in (before, after))
        if column.role == "label":
            known = [_flat(side, 1).drop_null() for side in (old, new)]
            means = [float(np.mean(k.to_numpy(zero_copy_only=False))) if len(k) else None for k in known]
            rates.append(LabelRate(column.name, means[0], means[1], (len(known[0]), len(known[1]))))
            continue
        found += _drifts(column, old, new)
    return sorted(found, key=lambda d: -d.psi), rates


def _drifts(column: Column, old: Values, new: Values) -> Iterator[Drift]:
    depth = int(column.per_candidate) + int(column.type.shape != "scalar")
    if column.type.shape == "list":
        sizes = [_lengths(_flat(side, depth - 1)) for side in (old, new)]
        yield _drift(column.name, "length", sizes[0], sizes[1], numeric=True)
    values = [_flat(side, depth) for side in (old, new)]
    numeric = column.type.is_number and column.feature is not None and column.feature.embedding is None
    yield _drift(column.name, "value", values[0], values[1], numeric=numeric)


def _column(table: Table, snapshot_id: int, name: str, share: float) -> Values:
    tasks = list(table.scan(snapshot_id=snapshot_id).plan_files())
    parts = []
    for rows in read_tasks(table, snapshot_id, tasks, ["user_id", name]):
        kept = rows if share >= 1 else rows.filter(pa.array(chosen_users(rows["user_id"].to_numpy(), share)))
        parts += kept[name].chunks
    return pa.chunked_array(parts) if parts else pa.chunked_array([pa.nulls(0)])


def _flat(values: Values, levels: int) -> Values:
    for _ in range(levels):
        values = pc.list_flatten(values) if not pa.types.is_null(values.type) else values
    return values


def _lengths(values: Values) -> Values:
    return values if pa.types.is_null(values.type) else pc.list_value_length(values)


def _drift(name: str, part: Literal["value", "length"], old: Values, new: Values, *, numeric: bool) -> Drift:
    old_counts, new_counts = (_numbers if numeric else _frequent)(old, new)
    totals = max(sum(old_counts.values()), 1), max(sum(new_counts.values()), 1)
    bins = tuple((k, old_counts.get(k, 0) / totals[0], new_counts.get(k, 0) / totals[1]) for k in old_counts)
    psi = 0.0
    for _, p, q in bins:
        if p or q:
            p_, q_ = max(p, SMOOTH), max(q, SMOOTH)
            psi += (q_ - p_) * math.log(q_ / p_)
    return Drift(name, part, psi if len(old) and len(new) else 0.0, (len(old), len(new)), bins)


def _numbers(old: Values, new: Values) -> tuple[dict[str, int], dict[str, int]]:
    sides = [side.drop_null().to_numpy(zero_copy_only=False).astype(float) for side in (old, new)]
    finite = [s[np.isfinite(s)] for s in sides]
    source = finite[0] if len(finite[0]) else finite[1]
    cuts = np.unique(np.quantile(source, np.linspace(0, 1, BINS + 1)[1:-1])) if len(source) else np.zeros(0)
    names = [f"≤ {c:.6g}" for c in cuts] + ([f"> {cuts[-1]:.6g}"] if len(cuts) else ["any"])
    counted = []
    for whole, all_values, side in zip((old, new), sides, finite, strict=True):
        counts = np.bincount(np.searchsorted(cuts, side, side="left"), minlength=len(names))
        counts_by = dict(zip(names, map(int, counts), strict=True))
        counted.append(counts_by | {"not a number": len(all_values) - len(side), "null": whole.null_count})
    return counted[0], counted[1]


def _frequent(old: Values, new: Values) -> tuple[dict[str, int], dict[str, int]]:
    connection = duckdb.connect(":memory:")
    try:
        for name, side in (("old", old), ("new", new)):
            values = pa.table({"v": side})
            connection.register("side", values)
            connection.execute(
                f"CREATE TABLE {name} AS SELECT cast(v AS VARCHAR) AS v, count(*) AS n FROM side GROUP BY 1"
            )
            connection.unregister("side")
        rows = connection.execute(
            f"WITH top AS (SELECT v FROM old WHERE v IS NOT NULL ORDER BY n DESC, v LIMIT {FREQUENT}), "
            "named AS (SELECT 0 AS side, * FROM old UNION ALL SELECT 1, * FROM new) "
            "SELECT side, CASE WHEN v IS NULL THEN 'null' WHEN v IN (SELECT v FROM top) THEN v ELSE 'others' END, "
            "sum(n)::BIGINT FROM named GROUP BY ALL ORDER BY 1, 3 DESC, 2"
        ).fetchall()
    finally:
        connection.close()
    counts: tuple[dict[str, int], dict[str, int]] = ({}, {})
    for side, name, n in rows:
        counts[0].setdefault(name, 0)
        counts[side][name] = n
    return counts
