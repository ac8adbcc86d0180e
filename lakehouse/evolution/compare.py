"""Two specs of one dataset compared: each difference is a step of the table's schema, a changed rule, or a refusal.

A rename is told from a drop and an add by `renamed_from` in the new spec; where the table has the new name already, the
marker has done its work and is not looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from lakehouse.spec import Column, DatasetSpec, Feature, FeatureType, Label, Sequence

Kind = Literal["add", "rename", "widen", "drop", "rule"]
WIDER = {("int", "long"), ("float", "double")}
PARTS = ("request_features", "candidate_features", "labels")
RULES = ("column", "range", "required", "default", "unit", "zone", "embedding", "sensitive", "doc", "candidate")
LONG_ONES = ("doc", "embeddings", "label_files")
FIXED = {
    "conflict": "stored rows are told apart and ranked by it",
    "impression_key": "stored candidates are told apart by it",
}
DROPPED = "its values stay in the files and in older snapshots, under its field id, which is not given again"
REMEDY = "give the dataset another name and ingest its raw files there"


@dataclass(frozen=True)
class Step:
    """One thing that changes: a column as the new spec names it (the old one's for `drop`), or a rule of the spec."""

    kind: Kind
    column: str
    says: str


@dataclass(frozen=True)
class Refusal:
    """A change that cannot be made safely: its place in the spec, why, and what to do."""

    place: str
    why: str


@dataclass(frozen=True)
class Tightened:
    """A rule that became stricter: the rows that are there have to keep it too. `stored` is the column's name now."""

    column: Column
    stored: str
    required: bool = False
    range: tuple[float, float] | None = None
    max_length: int | None = None


@dataclass
class Difference:
    """Everything that differs. `sources` gives each column of the new spec the old one that it is, if there is one."""

    steps: list[Step] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    tightened: list[Tightened] = field(default_factory=list)
    sources: dict[str, str] = field(default_factory=dict)

    def refuse(self, place: str, why: str) -> None:
        """Note what cannot be done."""
        self.refusals.append(Refusal(place, why))

    def step(self, kind: Kind, column: str, says: str) -> None:
        """Note what will be done."""
        self.steps.append(Step(kind, column, says))


def compare(old: DatasetSpec, new: DatasetSpec) -> Difference:
    """What changes from one spec of a dataset to another."""
    found = Difference()
    found.sources = {c.name: c.name for c in new.columns("key", "candidate_key", "rank")}
    _whole(found, old, new)
    for part in PARTS:
        origins = _origins(found, part, getattr(old, part), getattr(new, part))
        _features(found, part, old, new, origins)
    _sequences(found, old, new)
    return found


def _whole(found: Difference, old: DatasetSpec, new: DatasetSpec) -> None:
    """Everything but features and sequences."""
    before, after = (spec.keys.model_dump(mode="json") for spec in (old, new))
    for name in after:
        if _without_sensitive(before[name]) != _without_sensitive(after[name]):
            found.refuse(f"keys.{name}", f"stored rows are named by the keys as they were: {REMEDY}")
        elif before[name] != after[name]:
            found.step("rule", name, f"sensitive: {before[name]['sensitive']} → {after[name]['sensitive']}")
    for name, why in FIXED.items():
        if getattr(old, name) != getattr(new, name):
            found.refuse(name, f"{getattr(old, name)} → {getattr(new, name)}: {why}: {REMEDY}")
    apart = {"reqlake", "name", "namespace", "keys", "sequences", "partition", *PARTS, *FIXED}
    for name in DatasetSpec.model_fields:
        was, now = getattr(old, name), getattr(new, name)
        if name not in apart and was != now:
            found.step("rule", name, "changed" if name in LONG_ONES else f"{_word(was)} → {_word(now)}")
    cut, cuts = old.partition, new.partition
    options = [f"--buckets {cuts.buckets}"] if cut.buckets != cuts.buckets else []
    options += [f"--grain {cuts.grain}"] if cut.grain != cuts.grain else []
    if options:
        found.refuse(
            "partition",
            f"every file would have to be written anew: `reqlake rebucket {new.table()} {' '.join(options)}`, "
            f"then go on with the spec that it gives the table",
        )
    if cut.columns != cuts.columns:
        found.refuse("partition.columns", f"every file would have to be written anew: {REMEDY}")


def _without_sensitive(key: Any) -> Any:
    return {k: v for k, v in key.items() if k != "sensitive"} if isinstance(key, dict) else key


def _origins(
    found: Difference, place: str, old: Mapping[str, Feature | Sequence], new: Mapping[str, Feature | Sequence]
) -> dict[str, str]:
    """The old name of each new one that has one."""
    origins: dict[str, str] = {}
    for name, entry in new.items():
        if name in old:
            origins[name] = name
        elif entry.renamed_from is not None:
            said = f"renamed_from {entry.renamed_from!r}"
            if entry.renamed_from not in old:
                found.refuse(f"{place}.{name}", f"{said}: the table has none of that name there: remove it")
            elif entry.renamed_from in new:
                found.refuse(f"{place}.{name}", f"{said}: that is still declared: remove one of the two")
            elif entry.renamed_from in origins.values():
                found.refuse(f"{place}.{name}", f"{said}: another one is renamed from it too")
            else:
                origins[name] = entry.renamed_from
    return origins


def _features(found: Difference, part: str, old: DatasetSpec, new: DatasetSpec, origins: dict[str, str]) -> None:
    before: dict[str, Feature] = getattr(old, part)
    after: dict[str, Feature] = getattr(new, part)
    for name, feature in after.items():
        place, was = f"{part}.{name}", origins.get(name)
        if was is not None:
            found.sources[name] = was
            _same(found, place, new.column(name), (was, before[was]), feature)
        elif moved := next((p for p in PARTS if p != part and name in getattr(old, p)), None):
            found.refuse(place, f"it is one of {moved} in the table, which holds other values: give it another name")
        else:
            _added(found, place, name, feature)
        if isinstance(feature, Label):
            _label_time(found, name, feature, was, before.get(was or ""))
    for name, feature in before.items():
        if name not in origins.values():
            found.step("drop", name, DROPPED)
            if isinstance(feature, Label) and feature.time is not None:
                found.step("drop", f"{name}_time", DROPPED)


def _label_time(found: Difference, name: str, label: Label, was: str | None, before: Feature | None) -> None:
    """The column that holds when a label was set."""
    had = isinstance(before, Label) and before.time is not None
    if label.time is not None and had:
        found.sources[f"{name}_time"] = f"{was}_time"
        if was != name:
            found.step("rename", f"{name}_time", f"from {was}_time")
    elif label.time is not None:
        found.step("add", f"{name}_time", "timestamp, optional: null for labels that are there")
    elif had:
        found.step("drop", f"{was}_time", DROPPED)


def _added(found: Difference, place: str, column: str, feature: Feature) -> None:
    if feature.required and feature.default is None:
        found.refuse(
            place,
            "required, and rows that are there have no value: give it a default, or add it without `required`, fill it "
            "(`reqlake backfill`) and require it then",
        )
    filled = "null" if feature.default is None else f"null, read as {feature.default!r}"
    found.step("add", column, f"{feature.type}, optional: {filled} in rows and raw files of before")


def _same(found: Difference, place: str, column: Column, was: tuple[str, Feature], new: Feature) -> None:
    """A feature that the table has under a name (`was`): its name, its type, its rules."""
    name, (stored, old) = column.name, was
    if stored != name:
        found.step("rename", name, f"from {stored}")
    if old.type != new.type:
        if (old.type.element, new.type.element) in WIDER and _shape(old.type) == _shape(new.type):
            found.step("widen", name, f"{old.type} → {new.type}")
        else:
            found.refuse(place, f"{old.type} → {new.type}: {_unsafe(old.type, new.type)}")
    raw = (old.column or stored, new.column or name)
    for rule in RULES:
        before, after = getattr(old, rule, None), getattr(new, rule, None)
        if rule != "column" and before != after:
            found.step("rule", name, f"{rule}: {_word(before)} → {_word(after)}")
    if raw[0] != raw[1]:
        found.step("rule", name, f"raw column: {raw[0]} → {raw[1]}; raw files that have {raw[0]} do not fit any more")
    if isinstance(old, Label) and isinstance(new, Label) and old.time and new.time and old.time != new.time:
        found.step("rule", name, f"time: read from {new.time.column}")
    tighter = new.range if new.range is not None and not _within(old.range, new.range) else None
    required = new.required and not old.required and new.default is None
    if tighter is not None or required:
        found.tightened.append(Tightened(column, stored, required, tighter))


def _shape(kind: FeatureType) -> tuple[str, int | None]:
    return kind.shape, kind.size


def _unsafe(old: FeatureType, new: FeatureType) -> str:
    if _shape(old) != _shape(new):
        return "what one value holds has another shape: add it under another name and drop this one"
    if (new.element, old.element) in WIDER:
        return "it would narrow: values that are there may not fit. Add it under another name and drop this one"
    return "Iceberg widens int to long and float to double alone: add it under another name and drop this one"


def _within(inner: tuple[float, float] | None, outer: tuple[float, float]) -> bool:
    return inner is not None and outer[0] <= inner[0] and inner[1] <= outer[1]


def _word(value: Any) -> str:
    return "none" if value in (None, "") else str(list(value) if isinstance(value, tuple) else value)


def _sequences(found: Difference, old: DatasetSpec, new: DatasetSpec) -> None:
    groups = _origins(found, "sequences", old.sequences, new.sequences)
    for group, sequence in new.sequences.items():
        if group not in groups:
            for name, feature in sequence.fields.items():
                _added(found, f"sequences.{group}.fields.{name}", f"{group}_{name}", feature)
            continue
        before = old.sequences[groups[group]]
        fields = _origins(found, f"sequences.{group}.fields", before.fields, sequence.fields)
        _order(found, group, (groups[group], before), sequence, fields)
        for name, feature in sequence.fields.items():
            column, place = f"{group}_{name}", f"sequences.{group}.fields.{name}"
            if name not in fields:
                _added(found, place, column, feature)
                continue
            stored = f"{groups[group]}_{fields[name]}"
            found.sources[column] = stored
            _same(found, place, new.column(column), (stored, before.fields[fields[name]]), feature)
        for name in _gone(before.fields, fields.values()):
            found.step("drop", f"{groups[group]}_{name}", DROPPED)
    for group in _gone(old.sequences, groups.values()):
        for name in old.sequences[group].fields:
            found.step("drop", f"{group}_{name}", DROPPED)


def _gone(names: Iterable[str], kept: Iterable[str]) -> Iterator[str]:
    """The names that are not kept."""
    staying = set(kept)
    return (name for name in names if name not in staying)


def _order(found: Difference, group: str, was: tuple[str, Sequence], new: Sequence, fields: dict[str, str]) -> None:
    """What a sequence says of its events."""
    place, (before, old) = f"sequences.{group}", was
    if before != group:
        found.step("rule", group, f"the sequence's name: {before} → {group}")
    if old.order != new.order:
        found.refuse(place, f"order: stored events lie {old.order}: {REMEDY}")
    if (fields.get(new.time) if new.time else None) != old.time:
        told = f"time: {_word(old.time)} → {_word(new.time)}"
        found.refuse(place, f"{told}: stored events were not checked by it: {REMEDY}")
    if old.doc != new.doc:
        found.step("rule", group, "doc changed")
    if old.max_length != new.max_length:
        found.step("rule", group, f"max_length: {_word(old.max_length)} → {_word(new.max_length)}")
    if new.max_length is not None and (old.max_length is None or new.max_length < old.max_length):
        name = next((n for n in new.fields if n in fields), None)
        if name is not None:
            listed = Column(f"{group}_{name}", "sequence", FeatureType(new.fields[name].type.element, "list"))
            found.tightened.append(Tightened(listed, f"{before}_{fields[name]}", max_length=new.max_length))
