"""The column that a backfill writes: the one that is there, or a new one, added together with the table's new spec."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyiceberg.table import Table

from lakehouse.errors import SpecError
from lakehouse.evolution import commit, plan
from lakehouse.settings import Settings
from lakehouse.spec import Column, DatasetSpec, parse_spec
from spark_jobs.backfill_source import Source
from spark_jobs.columns import SPARK
from spark_jobs.errors import BackfillError

if TYPE_CHECKING:
    from pyspark.sql.types import DataType

ELEMENTS = {v: k for k, v in SPARK.items()} | {"smallint": "int", "tinyint": "int"}


@dataclass(frozen=True)
class Target:
    """A column of the table, its type in Spark, and for a candidate feature the type of one candidate's value."""

    name: str
    spark_type: str
    spark_element: str


def ensure_column(
    table: Table, spec: DatasetSpec, feature: str, source: Source, settings: Settings
) -> tuple[Target, bool]:
    """The feature's column, made where the spec does not have it; whether it was. Raises BackfillError, SpecError."""
    if feature in {c.name for c in spec.columns()}:
        return _target(spec.column(feature)), False
    data = spec.model_dump(mode="json", exclude_defaults=True) | {"reqlake": spec.reqlake}
    part = "candidate_features" if source.level == "candidate" else "request_features"
    data[part] = data.get(part, {}) | {feature: _type_name(source.kind, feature)}
    try:
        later = parse_spec(data)
    except SpecError as error:
        raise BackfillError(f"{feature} cannot be a feature of {spec.name}: {error}") from error
    column = later.column(feature)
    commit(plan(table, later), settings)
    return _target(column), True


def _target(column: Column) -> Target:
    element = SPARK[column.type.element]
    one = element if column.type.shape == "scalar" else f"array<{element}>"
    return Target(column.name, f"array<{one}>" if column.per_candidate else one, one)


def _type_name(kind: DataType | Any, feature: str) -> str:
    text = kind.simpleString()
    inner = text.removeprefix("array<").removesuffix(">")
    if inner not in ELEMENTS:
        raise BackfillError(
            f"{feature} is {text} in the source: a feature is a bool, a number, a string, a time, or a list"
        )
    return f"list<{ELEMENTS[inner]}>" if text.startswith("array<") else ELEMENTS[inner]
