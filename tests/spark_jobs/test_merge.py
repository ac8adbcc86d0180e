"""Late impressions: whatever the split into batches and their order, the table is the one of a single batch."""

from __future__ import annotations

import itertools
import json
import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from lakehouse.catalog import open_catalog
from lakehouse.settings import Settings
from lakehouse.upkeep.health import live_files
from spark_jobs.ingest import run
from tests.feature_reader.plain import assert_read_as_stored
from tests.spark_jobs.conftest import published, rows_of
from tests.spark_jobs.plain import plain_ingest, small_spec
from tests.spark_jobs.test_ingest_rules import SCHEMA, T0, log_of, ordered, row
from tests.support.datasets import SPECS, raw_log, reference_requests

pytestmark = pytest.mark.spark
names = itertools.count()
RANKS = {"request_hash", "request_rank", "candidate_rank"}


def batches_of(rows: list[Any], seed: int) -> list[list[Any]]:
    """The rows in two or three batches, in any order."""
    draw = random.Random(seed)
    rows = draw.sample(rows, len(rows))
    cuts = sorted(draw.sample(range(1, len(rows)), draw.randint(1, 2)))
    return [rows[a:b] for a, b in itertools.pairwise([0, *cuts, len(rows)])]


def small_log(seed: int) -> list[dict[str, Any]]:
    """Rows that all lie within their request's span."""
    rows = log_of(seed)
    for i, one in enumerate(rows):
        if one["ts"] > T0 + timedelta(hours=6):
            rows[i] = one | {"ts": one["ts"] - timedelta(hours=5)}
    return rows


def check_split(seed: int, rule: str, spark: Any, settings: Settings, folder: Path) -> None:
    log = small_log(seed)
    spec = small_spec(f"merged_{rule}_{next(names)}", rule)
    requests, quarantined, duplicates = plain_ingest(log, rule)
    told = {"accepted": 0, "other": 0, "requests": 0}
    for i, part in enumerate(batches_of(log, seed)):
        path = folder / f"{spec.name}-{i}.parquet"
        pq.write_table(pa.Table.from_pylist(part, schema=SCHEMA), path)
        report = run(spark, settings, spec, [path])
        assert report.raw_rows == report.accepted_rows + report.duplicate_rows + sum(report.quarantined.values())
        told["accepted"] += report.accepted_rows
        told["requests"] += report.requests
        told["other"] += report.duplicate_rows + sum(report.quarantined.values())
    assert rows_of(published(settings, spec), RANKS) == sorted(
        requests, key=lambda r: (r["user_id"], r["request_id"], repr(ordered(r, spec)))
    )
    assert told["accepted"] == sum(len(r["item_id"]) for r in requests)
    assert told["requests"] == len(requests)
    assert told["other"] == duplicates + len(quarantined)


QUIET = {
    "deadline": None,
    "database": None,
    "derandomize": True,
    "phases": [Phase.generate],  # an ingest takes seconds: a failure is told by its seed, not shrunk
    "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
}


@pytest.mark.parametrize(
    "rule",
    [
        "split",
        pytest.param("first", marks=pytest.mark.exhaustive),
        pytest.param("latest", marks=pytest.mark.exhaustive),
    ],
)
@hypothesis_settings(max_examples=1, **QUIET)
@given(seed=st.integers(1, 2**32))
def test_any_split_in_any_order_gives_the_table_of_one_batch(
    seed: int, rule: str, spark: Any, settings: Settings, tmp_path: Path
) -> None:
    check_split(seed, rule, spark, settings, tmp_path)


@pytest.mark.exhaustive
@pytest.mark.parametrize("rule", ["split", "first", "latest"])
@hypothesis_settings(max_examples=20, **QUIET)
@given(seed=st.integers(0, 2**32))
def test_many_splits(seed: int, rule: str, spark: Any, settings: Settings, tmp_path: Path) -> None:
    check_split(seed, rule, spark, settings, tmp_path)


@pytest.mark.parametrize(
    "name",
    ["shop", pytest.param("feed", marks=pytest.mark.exhaustive), pytest.param("video", marks=pytest.mark.exhaustive)],
)
def test_rows_of_each_shape_merge(name: str, spark: Any, settings: Settings, write: Any) -> None:
    spec, raw = SPECS[name], raw_log(SPECS[name], users=6)
    half = list(range(0, len(raw), 2))
    for i, taken in enumerate((raw.take(half), raw)):
        report = run(spark, settings, spec, [write(taken, f"{name}{i}")])
        assert (report.raw_rows, report.quarantined) == (report.accepted_rows + report.duplicate_rows, {})
    assert rows_of(published(settings, spec)) == rows_of(reference_requests(raw, spec))
    assert_read_as_stored(open_catalog(settings).load_table(spec.table()), spec, batch_requests=7, window=3)


def feed_rows(*changes: dict[str, Any]) -> list[pa.Table]:
    """A raw log of one row of the feed per change, made from the first row of a clean log, that has no history."""
    raw = raw_log(SPECS["feed"], users=1)
    none: dict[str, Any] = {"history_item_id": [], "history_action": [], "history_ts": []}
    model = raw.to_pylist()[0] | none | {"opened_at": T0 + timedelta(minutes=30)}
    return [pa.Table.from_pylist([model | change], schema=raw.schema) for change in changes]


def test_a_request_moves_to_the_partition_of_its_least_time(spark: Any, settings: Settings, write: Any) -> None:
    """The feed is partitioned by day: its request at 0:30 gets an impression of 23:59 the day before."""
    spec = SPECS["feed"]
    first, late, again = feed_rows(
        {"iid": 1, "opened_at": T0 + timedelta(minutes=90)},
        {"iid": 2, "opened_at": T0 + timedelta(minutes=59)},
        {"iid": 3, "opened_at": T0 + timedelta(minutes=100)},
    )
    run(spark, settings, spec, [write(first, "first")])
    for part, name in ((late, "late"), (again, "again")):
        report = run(spark, settings, spec, [write(part, name)])
        assert (report.requests, report.merged_requests, report.accepted_rows) == (0, 1, 1)
    one = published(settings, spec).to_pylist()
    assert [(r["request_ts"], r["item_id"], r["position"]) for r in one] == [
        (T0 + timedelta(minutes=59), [1, 2, 3], [0, 1, 2])
    ]
    table = open_catalog(settings).load_table(spec.table())
    days = {p["partition"]["request_day"] for p in table.inspect.partitions().to_pylist() if p["record_count"]}
    assert T0.date() in days


def test_rows_too_far_from_their_request_go_to_quarantine(spark: Any, settings: Settings, write: Any) -> None:
    spec = SPECS["feed"]
    first, before, after = feed_rows(
        {"iid": 1, "opened_at": T0},
        {"iid": 2, "opened_at": T0 - timedelta(hours=6, seconds=1)},
        {"iid": 3, "opened_at": T0 + timedelta(hours=6, seconds=1)},
    )
    run(spark, settings, spec, [write(first, "first")])
    for part, name in ((before, "before"), (after, "after")):
        report = run(spark, settings, spec, [write(part, name)])
        assert (report.quarantined, report.accepted_rows) == ({"request_ts_conflict": 1}, 0)
    assert [r["item_id"] for r in published(settings, spec).to_pylist()] == [[1]]


def test_a_variant_whose_history_reaches_past_the_new_time_goes_to_quarantine(
    spark: Any, settings: Settings, write: Any
) -> None:
    spec = SPECS["feed"]
    seen = {"history_item_id": [7], "history_action": [1], "history_ts": [T0 + timedelta(minutes=5)]}
    first, late = feed_rows(
        {"iid": 1, "opened_at": T0 + timedelta(minutes=6), **seen}, {"iid": 2, "opened_at": T0, "score": 0.5}
    )
    run(spark, settings, spec, [write(first, "first")])
    report = run(spark, settings, spec, [write(late, "late")])
    assert report.quarantined == {"event_not_before_request": 1}
    assert (report.requests, report.accepted_rows) == (0, 0)  # one went, one came
    assert [(r["item_id"], r["score"]) for r in published(settings, spec).to_pylist()] == [([2], 0.5)]
    held = published(settings, spec, "quarantine").to_pylist()
    assert [(json.loads(r["raw"])["item_id"], r["file"].split("@")[0]) for r in held] == [(1, f"lake.{spec.table()}")]


def test_files_of_untouched_partitions_keep_their_paths(spark: Any, settings: Settings, write: Any) -> None:
    """Only position deletes and the rows that changed are written, and only in the bucket of the late row's user."""
    spec, raw = SPECS["shop"], raw_log(SPECS["shop"], users=12)
    missing = raw.slice(0, 1)
    run(spark, settings, spec, [write(raw.slice(1), "first")])
    table = open_catalog(settings).load_table(spec.table())
    before = {file.file_path: file for _, file in live_files(table)}
    report = run(spark, settings, spec, [write(missing, "late")])
    after = {file.file_path: file for _, file in live_files(table.refresh())}
    assert report.merged_requests == 1
    assert set(before) <= set(after)
    new = [after[path] for path in set(after) - set(before)]
    assert sorted((file.content.name, file.record_count) for file in new) == [("DATA", 1), ("POSITION_DELETES", 1)]
    assert len({tuple(file.partition[i] for i in range(len(file.partition))) for file in new}) == 1
    assert rows_of(published(settings, spec)) == rows_of(reference_requests(raw, spec))


@pytest.mark.parametrize(("rule", "kept"), [("first", 1), ("latest", 2)])
def test_a_late_row_that_changes_a_feature_follows_the_rule_and_is_counted(
    rule: str, kept: int, spark: Any, settings: Settings, write: Any
) -> None:
    spec = small_spec(f"late_{rule}", rule)
    early = row(feature=1, version=1)
    late = row(i=2, feature=2, version=2, shown=T0 + timedelta(seconds=1))
    run(spark, settings, spec, [write(pa.Table.from_pylist([early], schema=SCHEMA), f"{rule}1")])
    report = run(spark, settings, spec, [write(pa.Table.from_pylist([late], schema=SCHEMA), f"{rule}2")])
    assert [(r["item_id"], r["feature"]) for r in published(settings, spec).to_pylist()] == [([1, 2], kept)]
    assert (report.conflict_rows, report.requests, report.merged_requests) == (1 if rule == "first" else 0, 0, 1)
