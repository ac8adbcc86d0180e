"""64-bit fingerprints of rows, from Spark's native xxhash64.

That hash skips nulls and does not mix list lengths: `[1], []` and `[], [1]` collide, as do `null, 1` and `1, null`.
So every value goes in with its size or null flag, and a list that holds null elements with their places as well.
The places are looked for natively (`array_contains` answers null where an element is null); only lists that have one
pay for the lambda.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import Column

    from lakehouse.spec import FeatureType

# A value that logs hardly hold: a list that holds it takes the slow path to the same fingerprint.
RARE = {
    "bool": None,
    "int": "-2147483647",
    "long": "-9223372036854775807",
    "float": "-1.1754942E-38",
    "double": "-2.2250738585072E-308",
    "string": "'\x00\x01reqlake'",
    "timestamp": "timestamp_micros(-9223372036854775807)",
}


def fingerprint(columns: dict[str, FeatureType]) -> Column:
    """Hash of named columns in the given order: int64, equal for equal values, whatever file or batch they lie in."""
    from pyspark.sql import functions as F

    parts: list[Column] = []
    for name, kind in columns.items():
        column = F.col(name)
        if kind.shape == "scalar":
            parts += [column.isNull(), column]
        else:
            parts += [F.coalesce(F.size(column), F.lit(-1)), _null_places(name, kind), column]
    return F.xxhash64(*parts) if parts else F.lit(0).cast("bigint")


def _null_places(name: str, kind: FeatureType) -> Column:
    """0 for a list without null elements, else a hash of where they are."""
    from pyspark.sql import functions as F

    column = F.col(name)
    places = F.xxhash64(F.transform(column, lambda x: x.isNull()))
    has_null = F.exists(column, lambda x: x.isNull())
    rare = RARE[kind.element]
    if rare is None:
        maybe = has_null
    else:
        contained = F.array_contains(column, F.expr(rare).cast({"long": "bigint"}.get(kind.element, kind.element)))
        maybe = column.isNotNull() & F.coalesce(contained, F.lit(True)) & has_null
    return F.when(maybe, places).otherwise(F.lit(0).cast("bigint"))
