"""Groups of columns that are kept for a shorter time than their requests: which may be, and what takes their place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from lakehouse.errors import nearest

if TYPE_CHECKING:
    from lakehouse.spec.dataset import Column, DatasetSpec

Replaced = Literal["empty", "null", "default"]


def retained_columns(spec: DatasetSpec, group: str) -> tuple[Column, ...]:
    """The table's columns of a group: of a sequence, all of its fields."""
    named = spec.retention[group].columns
    return tuple(c for c in spec.columns("request", "sequence", "candidate") if (c.group or c.name) in named)


def replaced_by(column: Column) -> Replaced:
    """What an emptied column holds: an empty list, null, or where null is bad data the feature's default."""
    if column.group is not None or column.type.shape == "list":
        return "empty"
    return "default" if column.feature is not None and column.feature.required else "null"


def check_retention(spec: DatasetSpec) -> None:
    """Raises ValueError for a group that names what cannot be emptied, and for a table without periods."""
    if spec.retention and spec.partition.grain == "none":
        raise ValueError("retention: the table is not partitioned by time (partition.grain), so nothing grows old")
    features = {c.name: c for c in spec.columns("request", "candidate")}
    known, seen = [*features, *spec.sequences], dict[str, str]()
    for group, rule in spec.retention.items():
        where = f"retention.{group}.columns"
        if rule.after.total_seconds() <= 0:
            raise ValueError(f"retention.{group}.after: a span is longer than nothing, to leave a column out drop it")
        for name in rule.columns:
            if name in seen:
                raise ValueError(f"{where}: {name!r} is in the group {seen[name]!r} as well, take one of them out")
            seen[name] = group
            column = next((c for c in spec.columns() if c.name == name), None)
            if name in spec.sequences:
                continue
            if column is not None and column.group is not None:
                raise ValueError(
                    f"{where}: {name!r} is one list of {column.group}, which are as long: name the sequence"
                )
            if column is not None and name not in features:
                raise ValueError(f"{where}: {name!r} is a {column.role.replace('_', ' ')}, which is kept with its row")
            if name not in features:
                raise ValueError(f"{where}: no feature or sequence {name!r}.{nearest(name, known)}")
            feature = features[name].feature
            if name in spec.partition.columns:
                raise ValueError(f"{where}: {name!r} is a partition column, without it the row would lie elsewhere")
            if replaced_by(features[name]) == "default" and (feature is None or feature.default is None):
                raise ValueError(f"{where}: {name!r} is required, so null is bad data: give it a default")
