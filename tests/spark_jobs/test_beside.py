"""The tables beside the request table do not grow files for ever: `maintain` joins them by the same rules."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.table import Table
from pyiceberg.transforms import IdentityTransform

from lakehouse.catalog import ensure_namespace, open_catalog
from lakehouse.ids import SCHEMA, ensure_ids, hashed
from lakehouse.ledger import Ledger, Member
from lakehouse.pending import ensure_pending
from lakehouse.quality.results import keep_results
from lakehouse.quality.suite import RuleResult, ValidationReport
from lakehouse.settings import Settings
from spark_jobs import maintain
from spark_jobs.ids import ORDER
from spark_jobs.quarantine import ensure_quarantine
from tests.spark_jobs.test_maintain import kept, no_spark
from tests.support.datasets import SPECS, raw_log, reference_requests, write_request_table

pytestmark = pytest.mark.spark
SPEC = SPECS["shop"]
NOW = datetime(2026, 5, 1, tzinfo=UTC)
BATCHES = 5


def files(table: Table) -> int:
    return len(list(table.refresh().scan().plan_files()))


def rows(table: Table) -> list[str]:
    return sorted(map(repr, table.refresh().scan().to_arrow().to_pylist()))


def tables(spark: Any, settings: Settings) -> dict[str, Table]:
    """Each table as five small batches leave it; the ids in the layout of old, a partition a kind."""
    catalog = open_catalog(settings)
    write_request_table(settings, SPEC, reference_requests(raw_log(SPEC, users=2), SPEC), files=1)
    ensure_namespace(catalog, SPEC.namespace, settings)
    by_kind = PartitionSpec(PartitionField(1, 1000, IdentityTransform(), "kind"))
    old = catalog.create_table(SPEC.table("ids"), SCHEMA, partition_spec=by_kind, properties={"format-version": "2"})
    spark.sql(
        f"ALTER TABLE lake.{SPEC.table('ids')} WRITE DISTRIBUTED BY PARTITION LOCALLY ORDERED BY {', '.join(ORDER)}"
    )
    ledger, pending = Ledger(catalog, SPEC, settings), ensure_pending(catalog, SPEC, settings)
    quarantine = catalog.load_table(ensure_quarantine(catalog, SPEC, settings))
    for i in range(BATCHES):
        ledger.write(f"b{i}", [Member(f"1:{i}", f"{i}.parquet", 1)], i, 1_700_000_000_000)
        told = ValidationReport(SPEC.table(), 1, (RuleResult("keys", "keys are unique", passed=True),), 0.0)
        keep_results(catalog, SPEC, settings, told, batch_id=f"b{i}", snapshot_id=i)
        texts = [f"k{i}-{n}" for n in range(8)]
        ids = [{"kind": "user_id", "hash": hashed(text), "string": text} for text in texts]
        old.refresh().append(pa.Table.from_pylist(ids, schema=old.schema().as_arrow()))
        one = {"user_id": 1, "request_id": i, "batch_id": "b", "file": "f", "row": i}
        label = {"item_id": 1, "label": "ordered", "value": "1", "time": NOW, "waiting_since": NOW}
        pending.append(pa.Table.from_pylist([one | label], schema=pending.schema().as_arrow()))
        held = {"reason": "bad_item", "quarantined_at": NOW}
        quarantine.append(pa.Table.from_pylist([one | held], schema=quarantine.schema().as_arrow()))
    ensure_ids(catalog, SPEC, settings)
    kinds = ("ledger", "suite_results", "ids", "pending_labels", "quarantine")
    return {kind: catalog.load_table(SPEC.table(kind)) for kind in kinds}


def test_small_files_of_every_table_are_joined_and_old_snapshots_go(spark: Any, settings: Settings) -> None:
    beside = tables(spark, settings)
    settings = kept(settings, keep_days=0)
    before = {kind: rows(table) for kind, table in beside.items()}
    assert all(files(table) >= BATCHES for table in beside.values())
    planned = {(r.job, r.table) for r in maintain.run(no_spark, settings, SPEC, dry_run=True)}
    assert {("compact", SPEC.table(kind)) for kind in beside} <= planned
    assert all(files(table) >= BATCHES for table in beside.values()), "a dry run writes nothing"
    maintain.run(lambda: spark, settings, SPEC)
    assert {kind: rows(table) for kind, table in beside.items()} == before
    ids = beside.pop("ids")
    assert {kind: files(table) for kind, table in beside.items()} == dict.fromkeys(beside, 1)
    lies_in = {task.file.partition[0] for task in ids.scan().plan_files()}
    assert files(ids) == len(lies_in) <= 16, "one file a bucket of the hash"
    assert {len(table.metadata.snapshots) for table in (ids, *beside.values())} == {1}
    assert maintain.run(no_spark, settings, SPEC) == []
