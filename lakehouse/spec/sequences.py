"""Which lists of a raw log belong together: equal lengths in every row make them fields of one sequence."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lakehouse.spec import naming
from lakehouse.spec.guess import Keys, Time, overlap, time_of, type_of
from lakehouse.spec.sample import Sample

SAME = 0.99  # share of rows in which lengths have to be equal: a real log has broken rows
CAPPED = 0.005  # share of rows at the greatest length from which on it is taken for a cap


@dataclass
class Found:
    """Sequences as a spec writes them, and lists that stand alone: list features and vectors."""

    sequences: dict[str, dict[str, Any]] = field(default_factory=dict)
    features: list[str] = field(default_factory=list)
    comments: dict[str, str] = field(default_factory=dict)


def find_sequences(sample: Sample, lists: list[str], keys: Keys, candidate_features: list[str]) -> Found:
    """Sort the request's list columns into sequences and list features."""
    found = Found()
    for group in _aligned(sample, lists):
        vectors = all(sample.vector_size(name) for name in group)
        if vectors or (len(group) == 1 and not naming.SEQUENCE & set(naming.words(group[0]))):
            found.features += group
        else:
            _add(found, sample, group, keys, candidate_features)
    return found


def _aligned(sample: Sample, lists: list[str]) -> list[list[str]]:
    """Groups of equal lengths; two capped sequences may agree by chance, so a group splits where its names do."""
    groups: list[list[str]] = []
    for name in lists:
        lengths = sample.lengths(name)
        home = next((g for g in groups if np.mean(sample.lengths(g[0]) == lengths) >= SAME), None)
        groups.append([name]) if home is None else home.append(name)
    return [part for group in groups for part in _by_prefix(group)]


def _by_prefix(group: list[str]) -> list[list[str]]:
    if naming.shared_prefix(group):
        return [group]
    parts: dict[str, list[str]] = {}
    for name in group:
        parts.setdefault(naming.words(name)[0], []).append(name)
    return list(parts.values()) if all(len(p) > 1 for p in parts.values()) else [group]


def _add(found: Found, sample: Sample, group: list[str], keys: Keys, candidate_features: list[str]) -> None:
    name, short_names = _names(group, keys, sample)
    name = naming.safe(name, found.sequences)
    fields: dict[str, dict[str, Any]] = {}
    time: str | None = None
    for column in group:
        short = naming.safe(short_names[column], fields)
        values = sample.table[column].combine_chunks().flatten()
        at = time_of(short, pa.chunked_array([values]))
        entry = _field(column, values, at, f"{name}_{short}")
        if at is not None and time is None:
            time = short
        elif at is None and _holds_items(sample, column, short, keys):
            entry["candidate"] = "item_id"
        elif short in candidate_features:
            entry["candidate"] = short
        fields[short] = entry
    sequence: dict[str, Any] = {"fields": fields}
    lengths = sample.lengths(group[0])
    most = int(lengths.max())
    at_most = np.mean(lengths == most)
    if most > 1 and at_most >= CAPPED and at_most > 3 * np.mean(lengths == most - 1):
        sequence = {"max_length": most} | sequence
    if time is not None:
        sequence = {"time": time} | _order(sample, fields[time].get("column", f"{name}_{time}")) | sequence
    else:
        found.comments[f"sequences.{name}"] = "no field holds times: confirm that the oldest event comes first"
    found.sequences[name] = sequence


def _field(column: str, values: pa.Array, at: Time | None, default: str) -> dict[str, Any]:
    kind = type_of(values.type)
    entry: dict[str, Any] = {"type": "timestamp" if at else str(kind)}
    if at:
        entry |= {k: v for k, v in (("unit", at.unit), ("zone", at.zone)) if v}
    return entry if column == default else entry | {"column": column}


def _names(group: list[str], keys: Keys, sample: Sample) -> tuple[str, dict[str, str]]:
    """The sequence's name and each column's name inside it: `history_ts` is `ts` of `history`."""
    prefix = naming.shared_prefix(group)
    if len(group) > 1:
        return prefix.rstrip("_.") or "history", {column: column.removeprefix(prefix) for column in group}
    column = group[0]
    first, _, rest = column.partition("_")
    if rest and first in naming.SEQUENCE:
        return first, {column: rest}
    holds = _holds_items(sample, column, column, keys)
    return (column if holds else "history"), {column: "item_id" if holds else "value"}


def _holds_items(sample: Sample, column: str, name: str, keys: Keys) -> bool:
    """Whether a list holds the item column's kind of id: of its type, and its values are seen there too."""
    share = overlap(sample.table[column], sample.table[keys.item])
    return share >= (0.1 if naming.score(name, naming.ITEM) else 0.5)


def _order(sample: Sample, column: str) -> dict[str, str]:
    """`newest_first` where the times fall from place to place in nearly all rows."""
    listed = sample.table[column].combine_chunks()
    steps = np.diff(pc.cast(listed.flatten(), pa.int64()).to_numpy(zero_copy_only=False))
    ends = np.cumsum(sample.lengths(column).clip(0))[:-1]
    inside: NDArray[np.bool_] = np.ones(len(steps), bool)
    inside[ends[(ends > 0) & (ends <= len(steps))] - 1] = False
    steps = steps[inside]
    return {"order": "newest_first"} if len(steps) and np.mean(steps <= 0) > np.mean(steps >= 0) else {}
