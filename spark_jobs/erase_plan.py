"""Where users are, before an erasure: rows of every table, tag and branch. Needs no Spark and changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from lakehouse.catalog import open_catalog, table_names
from lakehouse.sample import SAMPLE
from lakehouse.schema import open_request_table, table_spec
from lakehouse.settings import Settings
from lakehouse.spec import DatasetSpec
from lakehouse.upkeep.relayout import former_uuids, uuid_of
from lakehouse.upkeep.wanted import Wanted
from spark_jobs.erase_rows import rows_held
from spark_jobs.erase_users import Users
from spark_jobs.erase_wanted import known, learn
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
    tables, wanted = tables_of(catalog, spec, settings), Wanted.of(spec, users.ids, users.texts)
    wanted = known(wanted, learn(tables, spec, wanted, histories=False), spec)
    return tuple(
        Held(".".join(table.name()), name, ref.snapshot_ref_type.value, rows)
        for table in tables
        for name, ref in table.metadata.refs.items()
        if (rows := rows_held(table, wanted, ref.snapshot_id))
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
