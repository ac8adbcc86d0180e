"""What a raw row, and what a request's values, must satisfy: reasons and predicates, from the spec.

Row checks read narrow columns only and condemn the row alone. Request checks read the wide columns; all rows of a
request that agree on them share the verdict, so one of them is looked at. A predicate that is null is not a fault.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lakehouse.spec import DatasetSpec, Feature, FeatureType
from spark_jobs.mapping import LOSSY_REQUEST, LOSSY_ROW

if TYPE_CHECKING:
    from pyspark.sql import Column

EVENT = "event_not_before_request"
SPAN = "request_ts_conflict"
IMPRESSION = "impression_conflict"


@dataclass(frozen=True)
class Check:
    """A fault: why (a reason of the quarantine), of which column, and the predicate of rows that have it."""

    reason: str
    column: str
    fault: Column


def row_checks(spec: DatasetSpec) -> list[Check]:
    """Faults of a row by itself: its keys, its candidate, its labels."""
    from pyspark.sql import functions as F

    checks = [Check("null_key", name, F.col(name).isNull()) for name in ("user_id", "request_id", "request_ts")]
    checks.append(Check("bad_item", "item_id", F.col("item_id").isNull()))
    if spec.keys.position is not None:
        checks.append(Check("null_key", "position", F.col("position").isNull()))
    checks.append(Check("lossy_cast", LOSSY_ROW, F.col(LOSSY_ROW).isNotNull()))
    for name, feature in spec.candidate_features.items():
        checks += _feature_checks(name, feature, feature.type, "feature_out_of_range")
    for name, label in spec.labels.items():
        checks += _feature_checks(name, label, label.type, "label_out_of_range")
    return checks


def request_checks(spec: DatasetSpec) -> list[Check]:
    """Faults of a request's values, `request_ts` being that of the request."""
    from pyspark.sql import functions as F

    checks = [Check("lossy_cast", LOSSY_REQUEST, F.col(LOSSY_REQUEST).isNotNull())]
    for name, feature in spec.request_features.items():
        checks += _feature_checks(name, feature, feature.type, "feature_out_of_range")
    for group, sequence in spec.sequences.items():
        columns = {field: f"{group}_{field}" for field in sequence.fields}
        # A list that came after the others is null in rows of before.
        first = next((name for name in columns.values() if name not in spec.later), columns[next(iter(columns))])
        sizes = [F.coalesce(F.size(first), F.lit(-1))]
        for name in columns.values():
            size = F.array_size(name) if name in spec.later else F.coalesce(F.size(name), F.lit(-1))
            if name != first:
                checks.append(Check("list_length_mismatch", name, size != sizes[0]))
        if sequence.max_length is not None:
            checks.append(Check("list_too_long", group, sizes[0] > sequence.max_length))
        for field, feature in sequence.fields.items():
            listed = FeatureType(feature.type.element, "list")
            checks += _feature_checks(columns[field], feature, listed, "feature_out_of_range")
        if sequence.time is not None:
            times_name = columns[sequence.time]
            times = F.col(times_name)
            checks.append(Check("null_event_time", times_name, F.exists(times, lambda x: x.isNull())))
            in_order = F.sort_array(times, asc=sequence.order == "oldest_first")
            checks.append(Check("sequence_out_of_order", times_name, in_order != times))
            checks.append(Check(EVENT, times_name, F.array_max(times) >= F.col("request_ts")))
    return checks


def newest_event(spec: DatasetSpec) -> Column | None:
    """The newest event of all timed sequences of a row (the right end of an ordered list: no list is walked)."""
    from pyspark.sql import functions as F

    ends = []
    for group, sequence in spec.sequences.items():
        if sequence.time is not None:
            place = -1 if sequence.order == "oldest_first" else 1
            ends.append(F.try_element_at(F.col(f"{group}_{sequence.time}"), F.lit(place)))
    if not ends:
        return None
    return F.greatest(*ends) if len(ends) > 1 else ends[0]


def verdict(checks: list[Check]) -> Column:
    """The first fault as struct(reason, column), null where there is none."""
    from pyspark.sql import functions as F

    faults = [
        F.when(c.fault, F.struct(F.lit(c.reason).alias("reason"), F.lit(c.column).alias("column"))) for c in checks
    ]
    return F.coalesce(*faults)


def _feature_checks(name: str, feature: Feature, kind: FeatureType, out_of_range: str) -> list[Check]:
    from pyspark.sql import functions as F

    column = F.col(name)
    low, high = (column, column) if kind.shape == "scalar" else (F.array_min(column), F.array_max(column))
    checks = []
    if feature.required and feature.default is None:
        checks.append(Check("missing_value", name, column.isNull()))
    if kind.shape == "vector":
        nulls = F.exists(column, lambda x: x.isNull())
        checks.append(Check("vector_length", name, (F.size(column) != kind.size) | nulls))
    if kind.is_float:
        # Spark orders NaN above infinity, so the greatest element finds both.
        infinity = F.lit(float("inf")).cast(kind.element)
        checks.append(Check("nan_or_infinity", name, (high >= infinity) | (low <= -infinity)))
    if feature.range is not None:
        # A bound of 0.1 on a 32-bit float means the float nearest to 0.1.
        least, most = (F.lit(bound).cast(kind.element if kind.is_float else "double") for bound in feature.range)
        checks.append(Check(out_of_range, name, (low < least) | (high > most)))
    return checks
