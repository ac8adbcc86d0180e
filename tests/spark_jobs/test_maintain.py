"""`maintain` does what is due and no more; retention drops whole partitions by metadata alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lakehouse.catalog import open_catalog
from lakehouse.errors import SettingsError
from lakehouse.settings import Settings
from lakehouse.tags import create_tag
from spark_jobs import maintain, retention
from tests.spark_jobs.conftest import rows_of
from tests.spark_jobs.test_compact import due_at
from tests.spark_jobs.test_expire import lying
from tests.support.datasets import SPECS, raw_log, reference_requests, write_request_table

SPEC = SPECS["feed"]


def no_spark() -> Any:
    raise AssertionError("nothing is rewritten: Spark must not start")


def kept(settings: Settings, **limits: Any) -> Settings:
    return settings.model_copy(update={"maintenance": settings.maintenance.model_copy(update=limits)})


def test_a_healthy_table_is_left_alone_without_spark(settings: Settings) -> None:
    table = write_request_table(settings, SPEC, reference_requests(raw_log(SPEC, users=4), SPEC), files=1)
    before = (lying(table), table.metadata.snapshots)
    assert maintain.run(no_spark, settings, SPEC) == []
    assert (lying(table), table.refresh().metadata.snapshots) == before


@pytest.mark.spark
def test_everything_due_is_done_once_and_a_dry_run_says_it_before(spark: Any, settings: Settings) -> None:
    spec = SPECS["shop"]
    rows = reference_requests(raw_log(spec, users=6), spec)
    for _ in range(2):
        table = write_request_table(settings, spec, rows, files=1)
    settings = kept(due_at(settings, small_files=2), keep_days=0, orphan_hours=0)
    before = (lying(table), table.metadata.snapshots, rows_of(table.scan().to_arrow()))
    planned = maintain.run(no_spark, settings, spec, dry_run=True)
    assert [r.job for r in planned] == ["compact", "expire"]
    assert (lying(table), table.refresh().metadata.snapshots, rows_of(table.scan().to_arrow())) == before
    done = maintain.run(lambda: spark, settings, spec)
    # Opening the ledger again has left a metadata file: PyIceberg writes it before it sees that the table is there.
    assert [(r.job, r.table) for r in done if r.table == spec.table()] == [
        (j, spec.table()) for j in ("compact", "expire")
    ]
    assert rows_of(table.refresh().scan().to_arrow()) == before[2]
    assert (len(table.metadata.snapshots), done[0].after.files) == (1, 3)
    assert [r for r in maintain.run(no_spark, settings, spec) if r.table == spec.table()] == []


def test_retention_drops_whole_days_and_tags_keep_theirs(settings: Settings) -> None:
    rows = reference_requests(raw_log(SPEC), SPEC)
    table = write_request_table(settings, SPEC, rows, files=1)
    days = sorted({at.date() for at in rows["request_ts"].to_pylist()})
    pinned = create_tag(open_catalog(settings), SPEC, settings, "v1").snapshot_of(SPEC.table())
    settings = kept(settings, retention={"feed": timedelta(days=2)})
    now = datetime(days[1].year, days[1].month, days[1].day, 13, tzinfo=UTC) + timedelta(days=2)
    files = {t.file.file_path for t in table.scan().plan_files()}
    planned = retention.run(settings, SPEC, now=now, dry_run=True)
    report = retention.run(settings, SPEC, now=now)
    left = table.refresh().scan().to_arrow()
    wanted = rows.filter([at.date() >= days[1] for at in rows["request_ts"].to_pylist()])
    assert rows_of(left) == rows_of(wanted)
    assert {t.file.file_path for t in table.scan().plan_files()} < files  # nothing was rewritten
    assert report.removed_files == planned.removed_files == report.before.files - report.after.files > 0
    assert len(table.scan(snapshot_id=pinned).to_arrow()) == len(rows)
    assert retention.run(settings, SPEC, now=now).did == ()


def test_retention_needs_a_table_by_time(settings: Settings) -> None:
    spec = SPECS["shop"]
    write_request_table(settings, spec, reference_requests(raw_log(spec, users=2), spec))
    with pytest.raises(SettingsError, match="not partitioned by time"):
        retention.run(kept(settings, retention={"shop": timedelta(days=2)}), spec)
