"""Random logs with duplicates, conflicts, nulls and late rows, under each rule, against the plain definitions."""

from __future__ import annotations

import itertools
import json
import tempfile
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from lakehouse.settings import Settings
from spark_jobs.ingest import run
from tests.spark_jobs.conftest import published, rows_of
from tests.spark_jobs.plain import FEATURES, content, plain_ingest, small_spec

pytestmark = pytest.mark.spark
T0 = datetime(2026, 5, 1, 23, tzinfo=UTC)
SCHEMA = pa.schema(
    {
        "u": pa.int64(),
        "r": pa.int64(),
        "i": pa.int64(),
        "ts": pa.timestamp("us", "UTC"),
        "shown": pa.timestamp("us", "UTC"),
        "version": pa.int64(),
        "feature": pa.int32(),
        "tags": pa.list_(pa.int64()),
        "past_a": pa.list_(pa.int64()),
        "past_b": pa.list_(pa.string()),
        "click": pa.float32(),
    }
)
names = itertools.count()


@st.composite
def logs(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Rows of few users, requests and items, so that they meet; versions are distinct but for copies."""
    events = st.sampled_from([([], []), ([1], ["x"]), ([1, 2], ["x", None]), ([None, 2], ["x", "y"]), ([1], [])])
    rows = []
    for version in range(draw(st.integers(1, 40))):
        a, b = draw(events)
        opened = T0 + timedelta(hours=draw(st.sampled_from([0, 0, 1, 5, 7])), microseconds=version)
        rows.append(
            {
                "u": draw(st.integers(1, 2)),
                "r": draw(st.integers(1, 3)),
                "i": draw(st.integers(-2, 3)),
                "ts": opened,
                "shown": T0 + timedelta(seconds=draw(st.integers(0, 3))),
                "version": version * 7 % 41,
                "feature": draw(st.sampled_from([None, 0, 1])),
                "tags": draw(st.sampled_from([None, [], [0], [None, 0], [0, None]])),
                "past_a": a,
                "past_b": b,
                "click": draw(st.sampled_from([None, 0.0, 1.0, 1.0, 2.0])),
            }
        )
    copies = draw(st.lists(st.integers(0, len(rows) - 1), max_size=8))
    return draw(st.permutations(rows + [rows[i] for i in copies]))


def row(**given: Any) -> dict[str, Any]:
    base = {"u": 1, "r": 1, "i": 1, "ts": T0, "shown": T0, "version": 0, "feature": 1, "tags": [1]}
    return base | {"past_a": [], "past_b": [], "click": 1.0} | given


@pytest.mark.parametrize("rule", ["split", "first", "latest"])
@hypothesis_settings(
    max_examples=4,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(log=logs())
@example(log=[row(), row(version=1, feature=2), row(version=2, i=2, tags=None), row(version=2, i=2, tags=None)])
def test_random_logs_follow_the_definitions(
    log: list[dict[str, Any]], rule: str, spark: Any, settings: Settings
) -> None:
    spec = small_spec(f"small_{rule}_{next(names)}", rule)
    requests, quarantined, duplicates = plain_ingest(log, rule)
    with tempfile.TemporaryDirectory() as folder:
        raw = pa.Table.from_pylist(log, schema=SCHEMA)
        half = len(raw) // 2
        for i, part in enumerate((raw.slice(0, half), raw.slice(half))):
            if len(part):
                pq.write_table(part, f"{folder}/{i}.parquet")
        if not requests:
            with pytest.raises(Exception, match="would go to quarantine"):
                run(spark, settings, spec, [folder])
            return
        report = run(spark, settings, spec, [folder])
    leave_out = {"request_hash", "request_rank", "candidate_rank"}
    assert rows_of(published(settings, spec), leave_out) == sorted(
        requests, key=lambda r: (r["user_id"], r["request_id"], repr(ordered(r, spec)))
    )
    assert report.duplicate_rows == duplicates
    assert sum(report.quarantined.values()) == len(quarantined)
    if quarantined:
        held = published(settings, spec, "quarantine").to_pylist()
        assert sorted((r["reason"], content(parsed(r["raw"]))) for r in held) == quarantined
    assert report.raw_rows == report.accepted_rows + report.duplicate_rows + len(quarantined) == len(log)


def ordered(request: dict[str, Any], spec: Any) -> dict[str, Any]:
    return {c.name: request[c.name] for c in spec.columns() if c.name in request}


def parsed(text: str) -> dict[str, Any]:
    found = json.loads(text)
    return found | {name: datetime.fromisoformat(found[name]) for name in ("ts", "shown")}


def test_conflicts_are_counted_by_column(spark: Any, settings: Settings, write: Any) -> None:
    log = [
        row(),
        row(i=2, version=1),
        row(i=3, version=2, feature=5),
        row(i=4, version=3, feature=5, past_a=[9], past_b=["z"]),
    ]
    log += [row(r=2, i=i, version=10 + i) for i in range(3)]
    for rule, differ in (
        ("split", {"feature": 2, "past_a": 3, "past_b": 3}),
        ("latest", {"feature": 2, "past_a": 3, "past_b": 3}),
        ("first", {"feature": 2, "past_a": 1, "past_b": 1}),
    ):
        report = run(
            spark, settings, small_spec(f"counted_{rule}", rule), [write(pa.Table.from_pylist(log, schema=SCHEMA))]
        )
        assert report.conflicts_by_column == differ, rule
        assert report.conflict_rows == (2 if rule == "first" else 3)
        assert set(differ) <= set(FEATURES)
