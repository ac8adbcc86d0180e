"""Labels with a time: which of two values of one impression stands, and request rows with their labels brought up.

Of all values that were told for an impression, by its own raw rows or by label files, the one of the greatest (time,
hash) stands. That is a greatest element, so it is the same whatever the order and the batches, and told twice it
changes nothing. A label is told of an impression whose request opened at most `label_horizon` before the label's time,
and at most `request_span` after it.

An entry is a row of user_id, request_id, item_id, position (where that is part of the key), `label`, `value` (text) and
`time`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from lakehouse.spec import DatasetSpec
from spark_jobs.columns import SPARK

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

    from spark_jobs.narrow import Grouping

KEY = ["user_id", "request_id"]
LATE = "_late_{}"


def impression_key(spec: DatasetSpec) -> list[str]:
    """Columns that name an impression within its request."""
    return ["item_id", "position"] if spec.impression_key == "position" else ["item_id"]


def label_columns(spec: DatasetSpec) -> list[str]:
    """The table's columns of labels with a time, and of these times."""
    return [name for label in spec.timed_labels for name in (label, f"{label}_time")]


def ranked(value: Column, time: Column) -> Column:
    """A label as a struct whose order is the rule's: a value beats none, then the greater time, then the hash."""
    from pyspark.sql import functions as F

    return F.struct(
        value.isNotNull().alias("known"), time.alias("time"), F.xxhash64(value).alias("hash"), value.alias("value")
    )


def applies(spec: DatasetSpec, time: Column, request_ts: Column) -> Column:
    """Whether a label of a time may be one of a request."""
    from pyspark.sql import functions as F

    after = F.unix_micros(time) - F.unix_micros(request_ts)
    first, last = (int(span.total_seconds() * 1_000_000) for span in (-spec.request_span, spec.label_horizon))
    return (after >= F.lit(first)) & (after <= F.lit(last))


def by_request(spec: DatasetSpec, entries: DataFrame) -> DataFrame:
    """A row per request with `_late_<label>`: map of impression to the values that entries tell of it."""
    from pyspark.sql import functions as F

    key = impression_key(spec)
    each = []
    for name in spec.timed_labels:
        value = F.col("value").cast(SPARK[spec.labels[name].type.element])
        told = F.when(F.col("label") == name, ranked(value, F.col("time")))
        each.append(F.collect_list(told).alias(name))
    one = F.col("item_id") if len(key) == 1 else F.struct(*key)
    found = entries.groupBy(*KEY, *key).agg(*each)
    maps = [
        F.map_from_entries(F.collect_list(F.struct(one, F.col(name)))).alias(LATE.format(name))
        for name in spec.timed_labels
    ]
    return found.groupBy(*KEY).agg(*maps)


def with_labels(spec: DatasetSpec, rows: DataFrame, late: DataFrame) -> DataFrame:
    """Request rows with the values of `late` (see `by_request`) where they stand; `_updates`: how many now do."""
    from pyspark.sql import functions as F

    told = rows.join(F.broadcast(late), KEY, "left")
    columns: dict[str, Column] = {}
    updates = F.lit(0)
    for name in spec.timed_labels:
        # Columns of their own: an expression that is named twice is planned, and run, twice.
        told = told.withColumn(f"_own_{name}", _own(name)).withColumn(f"_best_{name}", _best(spec, name))
        columns[name] = F.col(f"_best_{name}.value")
        columns[f"{name}_time"] = F.col(f"_best_{name}.time")
        changed = F.zip_with(f"_best_{name}", f"_own_{name}", lambda stands, own: stands > own)
        updates = updates + F.size(F.filter(changed, lambda differs: differs))
    nothing = F.col(LATE.format(spec.timed_labels[0])).isNull()
    kept = [c for c in rows.columns if c not in columns]
    labels = [F.when(nothing, F.col(name)).otherwise(column).alias(name) for name, column in columns.items()]
    return told.select(*kept, *labels, F.when(nothing, 0).otherwise(updates).alias("_updates"))


def with_entries(spec: DatasetSpec, requests: DataFrame, *told: DataFrame | None) -> DataFrame:
    """Request rows with what entries tell of them; None tells nothing."""
    for entries in told:
        if entries is not None:
            requests = with_labels(spec, requests, by_request(spec, entries)).drop("_updates")
    return requests


def _own(name: str) -> Column:
    """What the row itself tells of each candidate."""
    from pyspark.sql import functions as F

    return F.transform("item_id", lambda _, i: ranked(F.get(F.col(name), i), F.get(F.col(f"{name}_time"), i)))


def _best(spec: DatasetSpec, name: str) -> Column:
    """What stands for each candidate: the greatest of its own and of what entries tell of it."""
    from pyspark.sql import functions as F

    by_position = len(impression_key(spec)) > 1

    def best(item: Column, i: Column) -> Column:
        own = F.array(F.get(F.col(f"_own_{name}"), i))
        key = F.struct(item.alias("item_id"), F.get("position", i).alias("position")) if by_position else item
        told = F.filter(
            F.try_element_at(F.col(LATE.format(name)), key), lambda e: applies(spec, e["time"], F.col("request_ts"))
        )
        return F.array_max(F.concat(own, F.coalesce(told, F.filter(own, lambda _: F.lit(False)))))

    return F.transform("item_id", best)


def newest_labels(spec: DatasetSpec, how: Grouping, groups: DataFrame) -> DataFrame:
    """Groups whose `kept` rows have the labels that stand among all rows `c` of their impression, both in key order."""
    from pyspark.sql import functions as F

    several = F.size("c") > F.size("kept")
    for name in spec.timed_labels:
        told = groups.withColumn("_told", _in_order(how, name))
        brought = F.zip_with("kept", F.filter("_told", _ends_run(how)), _taking(name))
        groups = told.withColumn("kept", F.when(several, brought).otherwise(F.col("kept"))).drop("_told")
    return groups


def _in_order(how: Grouping, name: str) -> Column:
    """What the rows `c` tell, by key and then by what stands."""
    from pyspark.sql import functions as F

    def tells(x: Column) -> Column:
        return F.struct(*[x[key] for key in how.key], ranked(x[name], x[f"{name}_time"]).alias("told"))

    return F.sort_array(F.transform("c", tells))


def _ends_run(how: Grouping) -> Callable[[Column, Column], Column]:
    """Whether the next of `_told` is of another key."""
    from pyspark.sql import functions as F

    def ends(x: Column, i: Column) -> Column:
        same = F.lit(True)
        for key in how.key:
            same = same & (x[key] == F.get(F.col("_told"), i + F.lit(1))[key])
        return ~F.coalesce(same, F.lit(False))

    return ends


def _taking(name: str) -> Callable[[Column, Column], Column]:
    """A row with the label that stands."""

    def takes(row: Column, x: Column) -> Column:
        return row.withField(name, x["told"]["value"]).withField(f"{name}_time", x["told"]["time"])

    return takes
