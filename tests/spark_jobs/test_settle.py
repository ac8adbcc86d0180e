"""Late batches that change nothing of a request leave its row where it lies; what they disagree on is counted."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pyarrow as pa
import pytest

from lakehouse.catalog import open_catalog
from lakehouse.errors import LeaseError
from lakehouse.lease import maintenance_lease
from lakehouse.settings import Settings
from lakehouse.upkeep.health import live_files
from spark_jobs.ingest import run
from tests.spark_jobs.conftest import published, rows_of
from tests.spark_jobs.plain import small_spec
from tests.spark_jobs.test_ingest_rules import SCHEMA, T0, row
from tests.spark_jobs.test_merge import feed_rows
from tests.support.datasets import SPECS, raw_log, reference_requests

pytestmark = pytest.mark.spark


def small_log(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=SCHEMA)


def files_of(settings: Settings, spec: Any) -> set[str]:
    return {file.file_path for _, file in live_files(open_catalog(settings).load_table(spec.table()))}


@pytest.mark.exhaustive
def test_pure_duplicates_touch_no_file_and_are_in_the_ledger(spark: Any, settings: Settings, write: Any) -> None:
    spec, raw = SPECS["feed"], raw_log(SPECS["feed"], users=3)
    run(spark, settings, spec, [write(raw, "first")])
    files = files_of(settings, spec)
    again = write(raw.take(list(range(0, len(raw), 2))), "again")
    report = run(spark, settings, spec, [again])
    assert (report.accepted_rows, report.requests, report.merged_requests) == (0, 0, 0)
    assert report.raw_rows == report.duplicate_rows > 0
    assert files_of(settings, spec) == files
    assert run(spark, settings, spec, [again]).skipped


def test_only_requests_that_change_are_written_anew(spark: Any, settings: Settings, write: Any) -> None:
    """One request gets an impression; another a duplicate, a row that comes too late, and a bad one."""
    for rule in ("split", "first"):
        spec = small_spec(f"settled_{rule}", rule)
        known = [row(), row(r=2, i=1, version=1), row(r=2, i=2, version=2, feature=5)]
        run(spark, settings, spec, [write(small_log(*known), f"{rule}1")])
        late = [row(i=9, version=9), *known[1:], row(r=2, i=3, version=3, ts=T0 + timedelta(hours=7))]
        report = run(spark, settings, spec, [write(small_log(*late, row(r=2, i=4, click=7.0)), f"{rule}2")])
        assert (report.raw_rows, report.accepted_rows, report.duplicate_rows) == (5, 1, 2)
        assert (report.merged_requests, report.requests, report.conflict_rows) == (1, 0, 0)
        assert report.quarantined == {"label_out_of_range": 1, "request_ts_conflict": 1}
        held = {(r["reason"], r["row"]) for r in published(settings, spec, "quarantine").to_pylist()}
        assert len(held) == 2
        items = sorted((r["request_id"], r["item_id"]) for r in published(settings, spec).to_pylist())
        assert items == ([(1, [1, 9]), (2, [1]), (2, [2])] if rule == "split" else [(1, [1, 9]), (2, [1, 2])])


@pytest.mark.parametrize(
    "rule",
    [
        "split",
        pytest.param("first", marks=pytest.mark.exhaustive),
        pytest.param("latest", marks=pytest.mark.exhaustive),
    ],
)
def test_columns_on_which_late_rows_disagree_with_the_table_are_counted(
    rule: str, spark: Any, settings: Settings, write: Any
) -> None:
    spec = small_spec(f"told_{rule}", rule)
    run(spark, settings, spec, [write(small_log(row(version=50), row(i=2, version=49)), f"{rule}1")])
    late = small_log(
        row(i=3, version=3, feature=5, shown=T0 + timedelta(seconds=3)),
        row(i=4, version=4, past_a=[9], past_b=["z"], shown=T0 + timedelta(seconds=3)),
        row(i=5, version=5, shown=T0 + timedelta(seconds=3)),
    )
    report = run(spark, settings, spec, [write(late, f"{rule}2")])
    assert report.conflict_rows == 2
    assert report.conflicts_by_column == {"feature": 1, "past_a": 1, "past_b": 1}


@pytest.mark.exhaustive
def test_a_request_id_that_is_used_again_within_the_horizon_is_told(spark: Any, settings: Settings, write: Any) -> None:
    """The feed lies in partitions of a day; three days on, the same key is a fault, whatever the partition."""
    spec = SPECS["feed"]
    first, soon, far = feed_rows(
        {"iid": 1}, {"iid": 2, "opened_at": T0 + timedelta(days=3)}, {"iid": 3, "opened_at": T0 + timedelta(days=30)}
    )
    run(spark, settings, spec, [write(first, "first")])
    report = run(spark, settings, spec, [write(soon, "soon")])
    assert (report.quarantined, report.accepted_rows, report.requests) == ({"request_ts_conflict": 1}, 0, 0)
    assert run(spark, settings, spec, [write(far, "far")]).requests == 1  # beyond key_horizon nobody looks
    wide = spec.model_copy(update={"name": "feed_wide", "key_horizon": timedelta(days=60)})
    run(spark, settings, wide, [write(first, "first")])
    assert run(spark, settings, wide, [write(far, "far")]).quarantined == {"request_ts_conflict": 1}


def test_nothing_is_ingested_beside_an_erasure(spark: Any, settings: Settings, write: Any) -> None:
    """Neither where it runs already, nor where it begins once the batch was looked at."""
    spec, raw = SPECS["feed"], raw_log(SPECS["feed"], users=2)
    catalog, folder = open_catalog(settings), write(raw)
    named = "erase runs on feed"
    with maintenance_lease(catalog, spec, settings, "erase"), pytest.raises(LeaseError, match=named):
        run(spark, settings, spec, [folder])
    held = maintenance_lease(catalog, spec, settings, "erase")

    def begins(step: str) -> None:
        if step.startswith("Grouping"):
            held.__enter__()

    with pytest.raises(LeaseError, match=named):
        run(spark, settings, spec, [folder], progress=begins)
    assert set(catalog.load_table(spec.table()).metadata.refs) <= {"main"}
    held.__exit__(None, None, None)
    with maintenance_lease(catalog, spec, settings, "compact"):
        run(spark, settings, spec, [folder])
    assert rows_of(published(settings, spec)) == rows_of(reference_requests(raw, spec))
