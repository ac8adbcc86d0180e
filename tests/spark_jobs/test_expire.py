"""Expiry and orphans, without Spark: what is held stays, what dies leaves nothing that the next run does not clear."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lakehouse.catalog import local_path, open_catalog
from lakehouse.errors import ExpiryError, TableMissingError
from lakehouse.ledger import BATCH, FILES, Ledger
from lakehouse.settings import Settings
from lakehouse.tags import create_tag
from lakehouse.upkeep.files import bare, owner, referenced
from spark_jobs import expire, orphans
from tests.spark_jobs.conftest import rows_of
from tests.support.datasets import SPECS, raw_log, reference_requests, write_request_table

SPEC = SPECS["feed"]


class Killed(BaseException):
    """What a process that dies does not catch."""


def die(*_: Any, **__: Any) -> None:
    raise Killed


@pytest.fixture
def table(settings: Settings) -> Any:
    """Three snapshots, the third of which has replaced every file of the first two."""
    made = write_request_table(settings, SPEC, reference_requests(raw_log(SPEC, users=6), SPEC))
    made.overwrite(made.scan().to_arrow())
    return made.refresh()


def lying(table: Any) -> set[str]:
    """Every file in the table's folder, checksums as the files that they belong to."""
    return {owner(str(p)) for p in local_path(table.location()).rglob("*") if p.is_file()}


def nothing_kept(settings: Settings) -> Settings:
    limits = settings.maintenance.model_copy(update={"keep_days": 0, "orphan_hours": 0})
    return settings.model_copy(update={"maintenance": limits})


def test_old_snapshots_go_with_the_files_that_only_they_needed(settings: Settings, table: Any) -> None:
    rows, before = rows_of(table.scan().to_arrow()), lying(table)
    planned = expire.run(nothing_kept(settings), SPEC, dry_run=True)
    assert (lying(table), len(table.refresh().metadata.snapshots)) == (before, len(table.metadata.snapshots))
    report = expire.run(nothing_kept(settings), SPEC)
    table.refresh()
    assert [s.snapshot_id for s in table.metadata.snapshots] == [table.current_snapshot().snapshot_id]
    assert rows_of(table.scan().to_arrow()) == rows
    assert report.removed_files == planned.removed_files == len(before - lying(table)) > 0
    assert report.removed_bytes == planned.removed_bytes > 0
    assert report.before.snapshots > report.after.snapshots == 1
    assert expire.run(nothing_kept(settings), SPEC).removed_files == 0
    assert expire.run(settings, SPEC).before == report.after


def test_a_tag_holds_its_snapshot_and_asking_for_it_is_refused(settings: Settings, table: Any) -> None:
    held = table.metadata.snapshots[0].snapshot_id
    catalog = open_catalog(settings)
    create_tag(catalog, SPEC, settings, "v1", snapshot_id=held)
    rows = rows_of(table.scan(snapshot_id=held).to_arrow())
    with pytest.raises(ExpiryError, match="held by tag 'v1': nothing was expired"):
        expire.run(settings, SPEC, snapshots=[held])
    with pytest.raises(ExpiryError, match="branch 'main'"):
        expire.run(settings, SPEC, snapshots=[table.current_snapshot().snapshot_id])
    with pytest.raises(TableMissingError, match="no snapshot 7"):
        expire.run(settings, SPEC, snapshots=[7])
    expire.run(nothing_kept(settings), SPEC)
    assert {s.snapshot_id for s in table.refresh().metadata.snapshots} == {held, table.current_snapshot().snapshot_id}
    assert rows_of(table.scan(snapshot_id=held).to_arrow()) == rows


def publish(table: Any) -> None:
    """A batch that was published and whose writer died before the ledger."""
    rows = reference_requests(raw_log(SPEC, users=2, seed=5), SPEC).cast(table.schema().as_arrow())
    table.append(rows, snapshot_properties={BATCH: "monday", FILES: '[["1:ab","a.parquet",7]]'})
    table.append(rows.slice(0, 0))
    table.refresh()


def test_a_batch_is_in_the_ledger_before_its_snapshot_goes(
    settings: Settings, table: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(table)
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "recover", lambda *_: [])
        with pytest.raises(ExpiryError, match="batch monday of snapshot"):
            expire.run(nothing_kept(settings), SPEC)
    expire.run(nothing_kept(settings), SPEC)
    assert Ledger(open_catalog(settings), SPEC, settings).batches() == {"monday": {"1:ab"}}


@pytest.mark.parametrize("step", ["referenced_by", "remove"])
def test_killed_at_a_step_and_run_again(
    step: str, settings: Settings, table: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = rows_of(table.scan().to_arrow())
    with monkeypatch.context() as patch:
        patch.setattr(expire, step, die)
        with pytest.raises(Killed):
            expire.run(nothing_kept(settings), SPEC)
    expire.run(nothing_kept(settings), SPEC)
    orphans.run(nothing_kept(settings), SPEC)
    assert rows_of(table.refresh().scan().to_arrow()) == rows
    assert {bare(p) for p in lying(table)} == referenced(table)


def test_age_counts_from_when_another_took_its_place(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table that nobody wrote to for a month: what is at work on its snapshot when that is replaced can go on."""
    month_ago = time.time() - 30 * 86400
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: month_ago)
        table = write_request_table(settings, SPEC, reference_requests(raw_log(SPEC, users=4), SPEC), files=2)
    first, last = (s.snapshot_id for s in table.metadata.snapshots)
    table.append(table.scan().to_arrow().slice(0, 1))
    assert expire.run(settings, SPEC).did == ("1 snapshots expired, 1 files removed",)
    assert table.refresh().snapshot_by_id(first) is None
    assert len(table.scan(snapshot_id=last).to_arrow()) > 0


def test_only_old_files_that_nothing_references_are_orphans(settings: Settings, table: Any) -> None:
    folder = local_path(table.location())
    lost = folder / "data" / "part of nothing.parquet"
    lost.write_bytes(b"half a fi")
    assert orphans.run(settings, SPEC)[-1].removed_files == 0  # it may be a running writer's
    planned = {r.table: r.removed_files for r in orphans.run(nothing_kept(settings), SPEC, dry_run=True)}
    assert planned[SPEC.table()] == 1
    assert lost.exists()
    before = lying(table) - {str(lost)}
    done = {r.table: (r.removed_files, r.removed_bytes) for r in orphans.run(nothing_kept(settings), SPEC)}
    assert done[SPEC.table()] == (1, 9)
    assert lying(table) == before
    assert isinstance(table.scan().to_arrow(), pa.Table)


def test_paths_are_one_whatever_their_scheme(tmp_path: Path) -> None:
    assert {bare(p) for p in (f"file://{tmp_path}", f"file:{tmp_path}", str(tmp_path))} == {str(tmp_path)}
    assert bare("s3://bucket/a/b") == "bucket/a/b"
