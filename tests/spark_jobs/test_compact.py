"""Compaction: only what is due, in order, the same rows; beside ingest, pinned readers and deaths."""

from __future__ import annotations

from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from lakehouse.catalog import local_path, open_catalog
from lakehouse.errors import LeaseError
from lakehouse.lease import maintenance_lease
from lakehouse.settings import Settings
from lakehouse.tags import create_tag
from lakehouse.upkeep.files import bare, referenced
from lakehouse.upkeep.health import partition_health
from spark_jobs import compact
from tests.lakehouse.merge_on_read import delete_positions
from tests.spark_jobs.conftest import rows_of
from tests.spark_jobs.test_expire import Killed, die, lying
from tests.support.datasets import SPECS, raw_log, reference_requests, write_request_table

pytestmark = pytest.mark.spark


def due_at(settings: Settings, **limits: Any) -> Settings:
    never = {"small_files": 10_000, "overlap_depth": 10_000, "deleted_share": 1.0}
    return settings.model_copy(update={"maintenance": settings.maintenance.model_copy(update=never | limits)})


def in_order(table: Any) -> bool:
    """Whether every data file has its rows by user and request."""
    for task in table.scan().plan_files():
        rows = pq.read_table(local_path(task.file.file_path), columns=["user_id", "request_id"])
        by_key = [("user_id", "ascending"), ("request_id", "ascending")]
        if pc.sort_indices(rows, sort_keys=by_key).to_pylist() != list(range(len(rows))):
            return False
    return True


@pytest.mark.parametrize("name", ["video", "shop"])
def test_every_kind_of_partition_is_rewritten_alone_and_in_order(spark: Any, settings: Settings, name: str) -> None:
    spec = SPECS[name]
    rows = reference_requests(raw_log(spec, users=8), spec)
    table = write_request_table(settings, spec, rows, files=1)
    due = max(table.scan().plan_files(), key=lambda t: t.file.record_count).file
    its = pq.read_table(local_path(due.file_path), columns=["user_id"])["user_id"].combine_chunks()
    for _ in range(2):
        table = write_request_table(settings, spec, rows.filter(pc.is_in(rows["user_id"], its)), files=1)
    rows_before, settings = rows_of(table.scan().to_arrow()), due_at(settings, overlap_depth=3)
    files_before = {t.file.file_path for t in table.scan().plan_files()}
    wanted = {p.name for p in compact.plan(settings, spec)}
    assert wanted
    report = compact.run(spark, settings, spec)
    table = open_catalog(settings).load_table(spec.table())
    assert rows_of(table.scan().to_arrow()) == rows_before
    after = {p.name: p for p in partition_health(table, settings.maintenance)}
    assert {n for n, p in after.items() if p.files == 1} >= wanted
    untouched = {bare(t.file.file_path) for t in table.scan().plan_files()} & {bare(f) for f in files_before}
    assert len(untouched) == sum(p.files for n, p in after.items() if n not in wanted)
    assert report.removed_files == report.before.files - len(untouched)
    assert in_order(table)
    assert untouched
    assert compact.plan(settings, spec) == []
    assert compact.run(spark, settings, spec).did == ()


def test_day_partitions_beside_an_append_a_tag_and_deletes(spark: Any, settings: Settings) -> None:
    spec = SPECS["feed"]
    rows = reference_requests(raw_log(spec, users=8), spec)
    write_request_table(settings, spec, rows.slice(0, 16), files=3)
    catalog = open_catalog(settings)
    table = catalog.load_table(spec.table())
    pinned = create_tag(catalog, spec, settings, "v1").snapshot_of(spec.table())
    old = rows_of(table.scan(snapshot_id=pinned).to_arrow())
    largest = max(table.scan().plan_files(), key=lambda t: t.file.record_count).file
    delete_positions(table, {largest.file_path: [0]})
    settings = due_at(settings, deleted_share=0.01, small_files=2)

    def append(step: str) -> None:  # another writer commits after the plan
        if step.startswith("Rewriting") and len(table.refresh().scan().to_arrow()) == 15:
            write_request_table(settings, spec, rows.slice(16), files=1)

    report = compact.run(spark, settings, spec, progress=append)
    table.refresh()
    assert sorted(r["request_id"] for r in table.scan().to_arrow().to_pylist()) == sorted(
        r["request_id"] for r in [*old, *rows.slice(16).to_pylist()] if r["request_id"] in held(table)
    )
    assert len(table.scan().to_arrow()) == len(rows) - 1
    assert report.after.delete_files == 0 < report.before.delete_files
    assert rows_of(table.scan(snapshot_id=pinned).to_arrow()) == old


def held(table: Any) -> set[int]:
    return set(table.scan().to_arrow()["request_id"].to_pylist())


def test_killed_between_groups_and_run_again(spark: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = SPECS["shop"]
    rows = reference_requests(raw_log(spec, users=8), spec)
    for _ in range(2):
        table = write_request_table(settings, spec, rows, files=1)
    before, settings = rows_of(table.scan().to_arrow()), due_at(settings, small_files=2)
    monkeypatch.setattr(compact, "GROUP_PARTITIONS", 1)
    with monkeypatch.context() as patch:
        patch.setattr("lakehouse.lease.Lease.renew", die)
        with pytest.raises(Killed):
            compact.run(spark, settings, spec)
    assert len(compact.plan(settings, spec)) == 2  # one of three is done
    compact.run(spark, settings, spec)
    table.refresh()
    assert compact.plan(settings, spec) == []
    assert rows_of(table.scan().to_arrow()) == before
    assert in_order(table)
    assert {bare(p) for p in lying(table)} == referenced(table)
    with maintenance_lease(open_catalog(settings), spec, settings, "erase"), pytest.raises(LeaseError, match="erase"):
        compact.run(spark, settings, spec)
