"""A draft of a dataset spec from a raw log: its Parquet schema and a sample, without Spark.

Columns that agree inside a request are the request's, the others the candidates'; lists of equal length in every row
are one sequence. The draft loads as it is; its comments say what a person has to confirm.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.errors import SpecError
from lakehouse.spec import naming
from lakehouse.spec.advice import Volume, suggest
from lakehouse.spec.dataset import DatasetSpec
from lakehouse.spec.draft import write_draft
from lakehouse.spec.files import parse_spec
from lakehouse.spec.guess import (
    CONSTANT,
    GAP,
    LEAST_GROUPS,
    Keys,
    Time,
    guess_keys,
    overlap,
    time_of,
    type_of,
)
from lakehouse.spec.sample import Sample, is_list, read_sample
from lakehouse.spec.sequences import find_sequences
from lakehouse.spec.volume import measure

RESERVED = {
    *("user_id", "request_id", "request_ts", "request_hash", "user_id_raw", "request_id_raw", "item_id", "item_id_raw"),
    *("position", "impression_ts", "request_version", "candidate_version", "request_rank", "candidate_rank"),
}
GENERIC = {"", "raw", "data", "log", "logs", "impressions", "part-00000"}


@dataclass(frozen=True)
class Draft:
    """An inferred spec, its YAML with comments, and what was measured on the way."""

    spec: DatasetSpec
    yaml: str
    volume: Volume
    left_out: dict[str, str]  # raw column: why it is in no part of the spec


def infer_spec(raw: str | Path, name: str | None = None, rows: int | None = None) -> Draft:
    """Draft a spec from Parquet files. Raises RawDataError for what is no log, SpecError for a key not found."""
    sample = read_sample(raw, rows) if rows else read_sample(raw)
    keys = guess_keys(sample)
    several = keys.groups.several
    if several < LEAST_GROUPS:
        raise SpecError(
            f"the sample of {sample.table.num_rows} rows of {raw} holds {several} requests of two rows and more by "
            f"({keys.user}, {keys.request or 'time'}); {LEAST_GROUPS} are needed to tell the request's features "
            "from the candidates'. Give a larger log, or write the spec by hand: docs/spec.md"
        )
    builder = _Builder(sample, keys)
    builder.fill()
    volume = measure(sample, keys, raw)
    partition = suggest(volume)
    builder.data["partition"] = {"grain": partition.grain, "buckets": partition.buckets}
    stem = Path(raw).stem
    title = naming.safe(name or (stem if stem not in GENERIC and "*" not in stem else "dataset"))
    data = {"reqlake": 1, "name": title} | builder.data
    spec = parse_spec(data, "the inferred spec")
    return Draft(spec, write_draft(data, builder.comments, builder.left_out, sample, volume), volume, builder.left_out)


class _Builder:
    """Sorts each column into its part of the spec; `data` is what the YAML holds, `comments` is by place in it."""

    def __init__(self, sample: Sample, keys: Keys) -> None:
        self.sample, self.keys = sample, keys
        self.data: dict[str, Any] = {"keys": self._keys()}
        self.comments = dict(keys.comments)
        self.left_out: dict[str, str] = {}
        self.taken = set(RESERVED)
        self.parts: dict[str, dict[str, Any]] = {
            part: {} for part in ("request_features", "sequences", "candidate_features", "labels", "embeddings")
        }

    def fill(self) -> None:
        """Place every column."""
        lists = []
        for column in self.sample.names:
            if column in self.keys.columns:
                continue
            kind = self.sample.table.schema.field(column).type
            if type_of(kind) is None:
                self.left_out[column] = f"{kind} has no type in a spec"
            elif self._agrees(column) and is_list(kind):
                lists.append(column)
            elif self._agrees(column):
                self._feature("request_features", column)
            elif self._is_label(column):
                self._label(column)
            else:
                self._feature("candidate_features", column)
        self._lists(lists)
        self._label_times()
        if self.keys.repeats_items:
            self.data["impression_key"] = "position"
        self.data |= {part: entries for part, entries in self.parts.items() if entries}

    def _agrees(self, column: str) -> bool:
        return self.sample.agreement(column, self.keys.groups) >= CONSTANT

    def _keys(self) -> dict[str, Any]:
        keys, schema = self.keys, self.sample.table.schema

        def identifier(column: str) -> str | dict[str, str]:
            kind = type_of(schema.field(column).type)
            return {"column": column, "type": "string"} if kind and kind.element == "string" else column

        data: dict[str, Any] = {
            "user_id": identifier(keys.user),
            "request_id": identifier(keys.request) if keys.request else {"gap": GAP},
            "request_ts": keys.request_ts.entry(),
            "item_id": identifier(keys.item),
        }
        if keys.impression_ts:
            data["impression_ts"] = keys.impression_ts.entry()
        return data | {k: v for k, v in (("position", keys.position), ("row_version", keys.version)) if v}

    # ---- features -------------------------------------------------------------------------------------------------

    def _feature(self, part: str, column: str) -> None:
        values = self.sample.table[column]
        kind = type_of(values.type)
        size = self.sample.vector_size(column)
        entry: dict[str, Any] = {"type": f"vector<{kind.element}, {size}>" if kind and size else str(kind)}
        time = time_of(column, values)
        if time is not None:
            entry["type"] = "timestamp"
            entry |= {k: v for k, v in (("unit", time.unit), ("zone", time.zone)) if v}
        name = self._name(column, entry)
        notes = []
        share = self.sample.agreement(column, self.keys.groups)
        if part == "request_features" and share < 1:
            notes.append(f"the rows of {1 - share:.1%} of the requests disagree")
        if kind and kind.element in ("int", "long") and "hour" in naming.words(column) and _within(values, 0, 23):
            entry["range"] = [0, 23]
        if time is None and kind and self._is_category(column, kind.element):
            entry["embedding"] = self._embedding(self._table_of(name, values), values)
        self._note(f"{part}.{name}", [*notes, *self._nulls(column)])
        self.parts[part][name] = entry

    def _is_category(self, column: str, element: str) -> bool:
        parts = naming.words(column)
        return element == "string" or (
            element in ("int", "long") and (parts[-1:] == ["id"] or bool(naming.CATEGORY & set(parts)))
        )

    def _table_of(self, name: str, values: pa.ChunkedArray) -> str:
        """The embedding table of a feature: the items' where it holds items, else one of its own."""
        items = self.sample.table[self.keys.item]
        return "item" if is_list(values.type) and overlap(values, items) >= 0.5 else naming.singular(name)

    def _embedding(self, table: str, values: pa.ChunkedArray) -> str:
        """Name an embedding table, sized for the distinct values of the sample and half as many more."""
        flat = pc.list_flatten(values) if is_list(values.type) else values
        distinct = max(1, len(pc.unique(flat)))
        rows = max(256, 2 ** int(np.ceil(np.log2(1.5 * distinct))))
        known = self.parts["embeddings"].get(table, {"rows": 0})
        self.parts["embeddings"][table] = {"rows": max(rows, known["rows"]), "dim": 8 if rows <= 1024 else 16}
        self.comments[f"embeddings.{table}"] = f"{distinct:,} values in the sample; size it for all"
        return table

    def _is_label(self, column: str) -> bool:
        values = self.sample.table[column]
        kind = type_of(values.type)
        if (
            kind is None
            or kind.shape != "scalar"
            or not (kind.is_number or kind.element == "bool")
            or time_of(column, values)
        ):
            return False
        binary = _within(values, 0, 1) and self.sample.distinct(column) <= 3
        return naming.is_label(column) or (binary and not naming.STATISTIC & set(naming.words(column)))

    def _label(self, column: str) -> None:
        values = self.sample.table[column]
        entry: dict[str, Any] = {"type": str(type_of(values.type))}
        if entry["type"] != "bool" and _within(values, 0, 1) and self.sample.distinct(column) <= 3:
            entry["range"] = [0, 1]
            note = "an outcome? confirm"
        else:
            least, most = _bounds(values)
            seen = f"{least:g} to {most:g} in the sample: set its range" if entry["type"] != "bool" else "confirm"
            note = f"an outcome? {seen}"
        name = self._name(column, entry)
        self._note(f"labels.{name}", [note])
        self.parts["labels"][name] = entry

    def _label_times(self) -> None:
        """`click_time` beside the label `click` is when the label was set."""
        for label in self.parts["labels"].values():
            raw = label.get("column", next(k for k, v in self.parts["labels"].items() if v is label))
            for name, entry in list(self.parts["candidate_features"].items()):
                column = entry.get("column", name)
                if entry["type"] == "timestamp" and column.startswith(f"{raw}_"):
                    label["time"] = Time(column, entry.get("unit"), entry.get("zone")).entry()
                    del self.parts["candidate_features"][name]

    # ---- sequences ------------------------------------------------------------------------------------------------

    def _lists(self, lists: list[str]) -> None:
        """Lists of equal length make a sequence; float lists of one length are vectors; others are list features."""
        found = find_sequences(self.sample, lists, self.keys, list(self.parts["candidate_features"]))
        for column in found.features:
            self._feature("request_features", column)
        for name, entry in found.sequences.items():
            for field in entry["fields"].values():
                if field.get("candidate") == "item_id":
                    field["embedding"] = self._embedding("item", self.sample.table[self.keys.item])
            self.parts["sequences"][name] = entry
        self.comments |= found.comments

    def _name(self, column: str, entry: dict[str, Any]) -> str:
        name = naming.safe(column, self.taken)
        self.taken.add(name)
        if name != column:
            entry["column"] = column
        return name

    def _nulls(self, column: str) -> list[str]:
        share = self.sample.share_null(column)
        return [f"{share:.1%} null"] if share else []

    def _note(self, place: str, notes: list[str]) -> None:
        if notes:
            self.comments[place] = "; ".join(notes)


def _within(values: pa.ChunkedArray, low: float, high: float) -> bool:
    if pa.types.is_boolean(values.type):
        return True
    if not (pa.types.is_integer(values.type) or pa.types.is_floating(values.type)):
        return False
    least, most = _bounds(values)
    return low <= least and most <= high


def _bounds(values: pa.ChunkedArray) -> tuple[float, float]:
    """Least and greatest value; NaN where there is none, which lies in no interval."""
    found = pc.min_max(values).as_py()
    return (np.nan, np.nan) if found["min"] is None else (found["min"], found["max"])
