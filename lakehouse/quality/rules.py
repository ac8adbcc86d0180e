"""The rules of a request table, as SQL predicates of the requests that break them (Spark's dialect).

They are computed in one scan into one narrow column each; the suite then looks at those. `null` breaks no rule but
those that speak of null.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lakehouse.spec import Column, DatasetSpec


@dataclass(frozen=True)
class Rule:
    """One expectation: its name, what it says, and the predicate of requests that break it."""

    name: str
    says: str
    broken: str


def suite_rules(spec: DatasetSpec) -> list[Rule]:
    """Every rule of a spec's request table beside the native ones (keys not null, keys unique)."""
    return [*_candidate_lists(spec), *_sequences(spec), *_values(spec)]


def _candidate_lists(spec: DatasetSpec) -> Iterator[Rule]:
    yield Rule("has_candidates", "every request has a candidate", "coalesce(size(item_id), 0) < 1")
    for column in spec.columns():
        if column.per_candidate and column.name != "item_id":
            size = f"array_size({column.name})"
            # Ranks are the job's own books: a table that another writer made may lack them. A feature or label that
            # came after the row is null as a whole.
            own = column.role == "candidate_key"
            sizes = f"{f'coalesce({size}, -1)' if own else size} <> size(item_id)"
            yield Rule(f"{column.name}_parallel", f"{column.name} has one value per candidate", sizes)
        if column.per_candidate and not column.nullable and not _has_default(column):
            nulls = f"exists({column.name}, x -> x IS NULL)"
            yield Rule(f"{column.name}_not_null", f"no candidate's {column.name} is null", nulls)
    yield Rule("position_ascending", "candidates lie in position order", "sort_array(position) <> position")


def _sequences(spec: DatasetSpec) -> Iterator[Rule]:
    for group, sequence in spec.sequences.items():
        names = [f"{group}_{field}" for field in sequence.fields]
        for name in names[1:]:
            unequal = f"array_size({name}) <> array_size({names[0]})"  # null where one of them came after the row
            yield Rule(f"{name}_aligned", f"{name} is as long as {names[0]}", unequal)
        if sequence.max_length is not None:
            longer = f"size({names[0]}) > {sequence.max_length}"
            yield Rule(f"{group}_max_length", f"{group} holds at most {sequence.max_length} events", longer)
        if sequence.time is not None:
            time = f"{group}_{sequence.time}"
            oldest_first = "true" if sequence.order == "oldest_first" else "false"
            reaching = f"array_max({time}) >= request_ts"
            yield Rule(f"{time}_before_request", f"every event of {group} lies before its request", reaching)
            unordered = f"sort_array({time}, {oldest_first}) <> {time}"
            yield Rule(f"{time}_in_order", f"events of {group} lie in order, {sequence.order}", unordered)


def _values(spec: DatasetSpec) -> Iterator[Rule]:
    for column in spec.columns("request", "sequence", "candidate", "label"):
        feature = column.feature
        if feature is None:
            continue
        low, high = _extremes(column)
        if feature.required and not _has_default(column) and column.role in ("request", "sequence"):
            yield Rule(f"{column.name}_required", f"{column.name} is never null", f"{column.name} IS NULL")
        if column.type.shape == "vector":
            yield Rule(f"{column.name}_length", f"{column.name} has {column.type.size} values", _wrong_length(column))
        if column.type.is_float:
            infinity = f"cast('Infinity' AS {column.type.element})"
            wild = f"{high} >= {infinity} OR {low} <= -{infinity}"  # NaN sorts above infinity
            yield Rule(f"{column.name}_finite", f"{column.name} holds no NaN and no infinity", wild)
        if feature.range is not None:
            kind = column.type.element if column.type.is_float else "double"
            least, most = (f"cast({bound!r} AS {kind})" for bound in feature.range)
            outside = f"{low} < {least} OR {high} > {most}"
            yield Rule(f"{column.name}_in_range", f"{column.name} lies in {list(feature.range)}", outside)


def _has_default(column: Column) -> bool:
    return column.feature is not None and column.feature.default is not None


def _extremes(column: Column) -> tuple[str, str]:
    """SQL of the least and greatest value of one request's column."""
    depth = column.per_candidate + (column.type.shape != "scalar")
    if depth == 0:
        return column.name, column.name
    # flatten() is null if any of the lists is: a ragged list may be null.
    flat = column.name if depth == 1 else f"flatten(filter({column.name}, x -> x IS NOT NULL))"
    return f"array_min({flat})", f"array_max({flat})"


def _wrong_length(column: Column) -> str:
    if not column.per_candidate:
        return f"size({column.name}) <> {column.type.size}"
    return f"exists({column.name}, x -> size(x) <> {column.type.size})"
