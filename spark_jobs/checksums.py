"""Order-free checksums of a request table's state: rows, and per column the sum of keyed hashes, by partition.

A column's hash is mixed with its row's key, so that values which trade rows do not cancel. Two states with the same
checksums hold the same rows, whatever files and order they lie in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from lakehouse.spec import FeatureType
from lakehouse.spec.types import Element
from spark_jobs.columns import SPARK
from spark_jobs.fingerprint import fingerprint

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame
    from pyspark.sql.types import DataType

KEY = ("user_id", "request_id", "request_hash")
ELEMENTS = {name: cast("Element", element) for element, name in SPARK.items()}
Sums = dict[tuple[Any, ...], tuple[int, ...]]
"""By partition values: rows, then a sum per column, in the frame's order."""


def checksums(frame: DataFrame, groups: dict[str, Column]) -> Sums:
    """The checksums of a frame of request rows, by the given columns of their partition; () for no groups."""
    from pyspark.sql import functions as F

    names = [field.name for field in frame.schema.fields]
    hashes = [keyed(field.name, field.dataType).alias(f"h_{field.name}") for field in frame.schema.fields]
    hashed = frame.select(*[column.alias(f"g_{name}") for name, column in groups.items()], *hashes)
    totals = [F.sum(F.col(f"h_{n}").cast("decimal(38,0)")).alias(f"s_{n}") for n in names]
    rows = hashed.groupBy(*[f"g_{name}" for name in groups]).agg(F.count("*").alias("rows"), *totals).collect()
    return {
        tuple(row[f"g_{name}"] for name in groups): (row["rows"], *(int(row[f"s_{n}"] or 0) for n in names))
        for row in rows
        if row["rows"]
    }


def keyed(name: str, kind: DataType) -> Column:
    """A column's hash, mixed with its row's key."""
    from pyspark.sql import functions as F

    return F.xxhash64(*[F.col(key) for key in KEY], _hash(name, kind))


def _hash(name: str, kind: DataType) -> Column:
    from pyspark.sql import functions as F
    from pyspark.sql.types import ArrayType

    column = F.col(f"`{name}`")
    inner, depth = kind, 0
    while isinstance(inner, ArrayType):
        inner, depth = inner.elementType, depth + 1
    element = ELEMENTS.get(inner.simpleString())
    if element is None or depth > 2:  # a column of another tool's
        return F.xxhash64(column.isNull(), F.to_json(F.struct(column)))
    if depth < 2:
        return fingerprint({name: FeatureType(element, "list" if depth else "scalar")})
    # Spark's hash does not mix lengths: each inner list goes in with its own, and with the places of its nulls.
    lists = F.transform(
        column, lambda x: F.xxhash64(F.coalesce(F.size(x), F.lit(-1)), F.transform(x, lambda y: y.isNull()), x)
    )
    return F.xxhash64(F.coalesce(F.size(column), F.lit(-1)), lists)


def differing(names: list[str], wanted: Sums, found: Sums) -> list[str]:
    """What differs between two states, in words: `rows` or a column's name, each once."""
    told: dict[str, None] = {}
    for part in wanted.keys() | found.keys():
        left, right = wanted.get(part, ()), found.get(part, ())
        if left != right:
            parts = zip(("rows", *names), left, right, strict=True) if left and right else [("rows", 1, 0)]
            told |= {name: None for name, a, b in parts if a != b}
    return list(told)
