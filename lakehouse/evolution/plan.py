"""The plan of an evolution: the table's new schema, under the field ids that it has, and the properties beside it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.types import IcebergType, ListType, NestedField

from lakehouse.evolution.compare import Refusal, Step, Tightened, compare
from lakehouse.evolution.rows import rows_that_break
from lakehouse.schema import (
    ICEBERG_ELEMENTS,
    LATER,
    SPEC,
    SPEC_BEFORE,
    SPEC_HASH,
    later_columns,
    table_properties,
    table_spec,
)
from lakehouse.spec import Column, DatasetSpec

METRICS = "write.metadata.metrics.column."


@dataclass(frozen=True)
class Plan:
    """What a changed spec means for one table, as of one snapshot of it; nothing is done where anything is refused."""

    table: Table
    spec: DatasetSpec
    steps: tuple[Step, ...]
    refusals: tuple[Refusal, ...]
    before: Schema
    schema: Schema
    snapshot_id: int | None
    properties: Mapping[str, str]
    removed: tuple[str, ...]

    @property
    def changes_schema(self) -> bool:
        """Whether columns change, and not rules alone."""
        return bool(self.schema != self.before)

    def field_id(self, step: Step) -> int | None:
        """The field id of a step's column, in the schema that has it; None for what is no column."""
        schema = self.before if step.kind == "drop" else self.schema
        return schema.find_field(step.column).field_id if step.column in schema.column_names else None


def plan(table: Table, spec: DatasetSpec) -> Plan:
    """Compare a spec with the one that a table carries; rules that become stricter are held against the rows there.

    Reads the columns of those rules, nothing else. Raises FormatError.
    """
    old = table_spec(table)
    found = compare(old, spec)
    snapshot = table.current_snapshot()
    refusals = list(found.refusals)
    if not refusals and snapshot is not None:
        refusals += _broken(table, found.tightened)
    schema = _schema(table, old, spec, found.sources)
    came = later_columns(table)
    added = {c.name for c in spec.columns() if c.name not in found.sources}
    later = added | {name for name, source in found.sources.items() if source in came}
    properties = {SPEC: spec.to_json(), SPEC_HASH: spec.hash}
    if schema != table.schema():
        properties[f"{SPEC_BEFORE}{table.schema().schema_id}"] = old.to_json()
    if later != came:
        properties[LATER] = json.dumps(sorted(later))
    metrics = {k: v for k, v in table_properties(spec).items() if k.startswith(METRICS)}
    properties |= {k: v for k, v in metrics.items() if k not in table.properties}
    columns = {f"{METRICS}{c.name}" for c in old.columns()}
    stale = tuple(k for k in table.properties if k not in metrics and k.removesuffix(".element") in columns)
    return Plan(
        table,
        spec,
        tuple(found.steps),
        tuple(refusals),
        table.schema(),
        schema,
        snapshot.snapshot_id if snapshot else None,
        properties,
        stale,
    )


def _broken(table: Table, tightened: list[Tightened]) -> Iterator[Refusal]:
    for rule in tightened:
        for what, count in rows_that_break(table, rule):
            yield Refusal(
                rule.column.name,
                f"{what}, which {count:,} requests that are there do not keep: loosen it, or mend them first "
                f"(`reqlake backfill`, `reqlake erase`)",
            )


def _schema(table: Table, old: DatasetSpec, spec: DatasetSpec, sources: Mapping[str, str]) -> Schema:
    """Columns in the spec's order: known ones under their field ids, new ones under ids never given, foreign ones last.

    Ids of dropped columns are never given again: the table's counter does not go back.
    """
    schema, ids = table.schema(), itertools.count(table.metadata.last_column_id + 1)
    there = {field.name: field for field in schema.fields}
    fields = []
    for column in spec.columns():
        before = there.get(sources.get(column.name, ""))
        doc = column.doc or None
        if before is not None:
            kind = _as_wide(before.field_type, column)
            fields.append(NestedField(before.field_id, column.name, kind, required=before.required, doc=doc))
        else:
            own = next(ids)
            fields.append(NestedField(own, column.name, _new_type(column, ids), required=False, doc=doc))
    ours = {c.name for c in old.columns()} | {f.name for f in fields}
    fields += [field for name, field in there.items() if name not in ours]
    known = {s.schema_id: s for s in table.metadata.schemas}
    made = Schema(*fields, identifier_field_ids=schema.identifier_field_ids)
    same = next((number for number, s in known.items() if s == made), None)
    return Schema(
        *fields,
        schema_id=max(known) + 1 if same is None else same,
        identifier_field_ids=schema.identifier_field_ids,
    )


def _as_wide(there: IcebergType, column: Column) -> IcebergType:
    """A type with its element as the spec has it."""
    if isinstance(there, ListType):
        return ListType(there.element_id, _as_wide(there.element_type, column), element_required=there.element_required)
    return ICEBERG_ELEMENTS[column.type.element]


def _new_type(column: Column, ids: Iterator[int]) -> IcebergType:
    depth = (column.type.shape != "scalar") + column.per_candidate
    numbers = [next(ids) for _ in range(depth)]
    kind: IcebergType = ICEBERG_ELEMENTS[column.type.element]
    for number in reversed(numbers):
        kind = ListType(element_id=number, element_type=kind, element_required=False)
    return kind
