"""Where users are, before an erasure: rows of every table, tag and branch. Needs no Spark and changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from lakehouse.catalog import open_catalog, table_names
from lakehouse.predicates import is_in
from lakehouse.sample import SAMPLE
from lakehouse.schema import open_request_table, table_spec
from lakehouse.settings import Settings
from lakehouse.spec import DatasetSpec
from lakehouse.upkeep.relayout import former_uuids, uuid_of
from lakehouse.upkeep.traces import Wanted, raw_names
from spark_jobs.erase_users import Users
from spark_jobs.orphans import dataset_tables


@dataclass(frozen=True)
class Held:
    """Rows of the users in one table's branch or tag."""

    table: str
    ref: str
    kind: str
    rows: int


def plan(settings: Settings, spec: DatasetSpec, users: Users) -> tuple[Held, ...]:
    """Every branch and tag that holds one of the users. Raises TableMissingError."""
    catalog = open_catalog(settings)
    open_request_table(catalog, spec, settings)
    return tuple(
        Held(".".join(table.name()), name, ref.snapshot_ref_type.value, rows)
        for table in tables_of(catalog, spec, settings)
        for name, ref in table.metadata.refs.items()
        if (rows := rows_held(table, spec, users, ref.snapshot_id))
    )


def tables_of(catalog: Catalog, spec: DatasetSpec, settings: Settings) -> list[Table]:
    """The dataset's tables, and those of samples that were taken from it."""
    tables = dataset_tables(catalog, spec, settings)
    mine = {t.name() for t in tables}
    requests = catalog.load_table(spec.table())
    uuids = (uuid_of(requests), *former_uuids(requests))
    for name in table_names(catalog, spec.namespace):
        if name.endswith("_requests") and tuple(name.split(".")) not in mine:
            other = catalog.load_table(name)
            if any(_summary(s).get(SAMPLE, "").startswith(uuids) for s in other.metadata.snapshots):
                tables += dataset_tables(catalog, table_spec(other), settings)
    return tables


def _summary(snapshot: Any) -> dict[str, str]:
    return dict(snapshot.summary.additional_properties) if snapshot.summary else {}


def rows_held(table: Table, spec: DatasetSpec, users: Users, snapshot_id: int) -> int:
    """Rows of the users in one snapshot: by id, in a quarantined raw row, or as a translation of an id."""
    names = {f.name for f in table.scan(snapshot_id=snapshot_id).projection().fields}
    found = 0
    if "user_id" in names:
        found += len(table.scan(is_in("user_id", users.ids), ("user_id",), snapshot_id=snapshot_id).to_arrow())
    if "raw" in names:
        rows = table.scan(selected_fields=("user_id", "raw"), snapshot_id=snapshot_id).to_arrow().to_pylist()
        wanted = Wanted.of(spec, users.ids, users.texts)
        found += sum(r["user_id"] not in users.ids and raw_names(r["raw"] or "", wanted) for r in rows)
    if {"kind", "hash", "string"} <= names:
        rows = table.scan(is_in("hash", users.ids), ("kind",), snapshot_id=snapshot_id).to_arrow().to_pylist()
        found += sum(r["kind"] == "user_id" for r in rows)
    return found
