"""The rows that differ, found only on the days whose checksums do, with their values for people to read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lakehouse.spec import DatasetSpec
from spark_jobs.scan import FILE, ROW
from spark_jobs.verify_report import Difference, Kind
from spark_jobs.verify_sides import KEY, Sides

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, Row

SHOWN = 60  # characters of a value


def find_differences(
    spec: DatasetSpec, sides: Sides, days: list[str], limit: int
) -> tuple[int, tuple[Difference, ...]]:
    """How many rows differ on these days, and the first ones, in the order of their keys."""
    from pyspark.sql import functions as F

    key = [*KEY, *(["position"] if spec.keys.position else [])]
    hashes = [f"k_{c}" for c in sides.columns]
    on_days = F.col("day").cast("string").isin(days)

    def counted(side: DataFrame, name: str, *more: str) -> DataFrame:
        places = [F.min(F.struct(*more)).alias("_place")] if more else []
        return side.where(on_days).groupBy(*key, *hashes).agg(F.count("*").alias(name), *places)

    raw, table = counted(sides.raw, "_raw", FILE, ROW), counted(sides.table, "_table")
    same = [F.col(f"l.{n}").eqNullSafe(F.col(f"r.{n}")) for n in (*key, *hashes)]
    both = raw.alias("l").join(table.alias("r"), same, "full")
    apart = both.where(F.coalesce("_raw", F.lit(0)) != F.coalesce("_table", F.lit(0)))
    apart = apart.select(
        *[F.coalesce(F.col(f"l.{n}"), F.col(f"r.{n}")).alias(n) for n in (*key, *hashes)], "_raw", "_table", "_place"
    ).persist()
    total = apart.agg(
        F.sum(F.when(F.col("_raw").isNotNull(), 1).otherwise(0)).alias("raw"),
        F.sum(F.when(F.col("_raw").isNull(), 1).otherwise(0)).alias("table"),
    ).collect()[0]
    rows = apart.orderBy(*key).limit(2 * limit).collect()
    apart.unpersist()
    return max(total["raw"] or 0, total["table"] or 0), tuple(_describe(spec, sides, rows, key, limit))


def _describe(spec: DatasetSpec, sides: Sides, rows: list[Row], key: list[str], limit: int) -> list[Difference]:
    by_key: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        by_key.setdefault(tuple(row[n] for n in key), []).append(row)
    found = []
    for names, members in list(by_key.items())[:limit]:
        left = next((r for r in members if r["_raw"]), None)
        right = next((r for r in members if r["_table"] and r is not left), None)
        differing: list[str] = []
        kind: Kind = "missing"
        if left is not None and right is not None:
            kind, differing = "differs", [c for c in sides.columns if left[f"k_{c}"] != right[f"k_{c}"]]
        elif left is None or (left["_table"] or 0) > left["_raw"]:
            kind = "extra"
        place = left["_place"] if left is not None else None
        values = _values(spec, sides, dict(zip(key, names, strict=True)), differing, place) if differing else {}
        user, request, item = (_masked(spec, n, names[i]) for i, n in enumerate(KEY))
        where = f"{place[FILE].rsplit('/', 1)[-1]} row {place[ROW]}" if place is not None else ""
        found.append(Difference(kind, user, request, item, values, where))
    return found


def _values(
    spec: DatasetSpec, sides: Sides, key: dict[str, Any], columns: list[str], place: Row | None
) -> dict[str, tuple[str, str]]:
    """{column: (raw value, table's value)} of one impression."""
    from pyspark.sql import functions as F

    names = {c: "row_version" if c == "candidate_version" else c for c in columns}
    raw: dict[str, Any] = {}
    if place is not None:
        mine = sides.log.typed.where((F.col(FILE) == place[FILE]) & (F.col(ROW) == place[ROW]))
        raw = mine.select(*[F.col(n).alias(c) for c, n in names.items()]).collect()[0].asDict()
    here = sides.expanded
    for name, value in key.items():
        here = here.where(F.col(name).eqNullSafe(F.lit(value)))
    table = here.select(*columns).limit(2).collect()
    told = {c: [row[c] for row in table] for c in columns}
    pick = {
        c: next((v for v in values if v != raw.get(c)), values[0] if values else None) for c, values in told.items()
    }
    return {c: (_masked(spec, c, raw.get(c)), _masked(spec, c, pick[c])) for c in columns}


def _masked(spec: DatasetSpec, name: str, value: Any) -> str:
    """A value as text, short; `***` for a sensitive one."""
    keys = {
        "user_id": spec.keys.user_id.sensitive,
        "request_id": spec.keys.request_id.sensitive,
        "item_id": spec.keys.item_id.sensitive,
    }
    known = {c.name: c.sensitive for c in spec.columns()}
    if keys.get(name.removesuffix("_raw"), known.get(name, False)):
        return "***"
    text = str(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
