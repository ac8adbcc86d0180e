"""Held rows tried again under a changed spec: exactly once, with the very values, whatever dies in between."""

from __future__ import annotations

import json
import math
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lakehouse.catalog import open_catalog
from lakehouse.errors import FormatError, RawDataError
from lakehouse.schema import SPEC, SPEC_HASH
from lakehouse.settings import Settings
from lakehouse.spec import DatasetSpec, parse_spec
from spark_jobs import ingest, replay, verify
from spark_jobs.held import INEXACT, OLDER, OVERRULED
from tests.spark_jobs.conftest import published, rows_of
from tests.support.datasets import SPECS, raw_log

pytestmark = pytest.mark.spark


class Killed(BaseException):
    """What a process that dies does not catch."""


def die(*_: Any, **__: Any) -> None:
    raise Killed


def changed(spec: DatasetSpec, **label: Any) -> DatasetSpec:
    """The spec with another range of `click`."""
    data = json.loads(spec.to_json())
    data["labels"]["click"] |= label
    return parse_spec(data)


def now_has(settings: Settings, spec: DatasetSpec) -> None:
    """Put a spec with other rules on the table."""
    table = open_catalog(settings).load_table(spec.table())
    with table.transaction() as change:
        change.set_properties({SPEC: spec.to_json(), SPEC_HASH: spec.hash})


def held(settings: Settings, spec: DatasetSpec) -> list[tuple[str, int]]:
    rows = published(settings, spec, "quarantine").to_pylist()
    assert all(r["replayed_by"] is None for r in rows)
    return sorted((r["reason"], r["row"]) for r in rows)


FEED = SPECS["feed"]
WIDER = changed(FEED, range=[0, 9])


def feed_log() -> pa.Table:
    """A log with three clicks of 2 (one in a request of its own), an infinite price, and an older word."""
    rows = raw_log(FEED, users=4).to_pylist()
    rows[0]["click"] = rows[1]["click"] = 2.0
    rows[2]["price"] = math.inf
    rows.append({**rows[3], "rid": 99_999, "click": 2.0, "score": float(np.float32(0.1)) / 3})
    rows.append({**rows[4], "click": 1 - rows[4]["click"]})
    return pa.Table.from_pylist(rows, schema=raw_log(FEED, users=1).schema)


def test_rows_that_pass_leave_the_quarantine_once_and_the_others_stay(
    spark: Any, settings: Settings, write: Any
) -> None:
    raw, first = feed_log(), write(feed_log(), files=1)
    ingest.run(spark, settings, FEED, [first])
    before = held(settings, FEED)
    assert len(before) == 5
    with pytest.raises(FormatError, match="spec apply"):
        replay.run(spark, settings, WIDER)
    now_has(settings, WIDER)

    judged = replay.run(spark, settings, WIDER, dry_run=True)
    assert held(settings, FEED) == before
    done = replay.run(spark, settings, WIDER)
    assert (
        (done.tried, done.accepted, done.duplicates) == (judged.tried, judged.accepted, judged.duplicates) == (4, 3, 0)
    )
    assert done.still == judged.still == {"nan_or_infinity": 1}
    assert done.left == {OLDER: 1}
    assert [reason for reason, _ in held(settings, FEED)] == ["impression_conflict", "nan_or_infinity"]
    assert replay.run(spark, settings, WIDER).accepted == 0
    assert verify.run(spark, settings, WIDER, [first]).ok
    assert len(raw) == 1 + sum(len(r["item_id"]) for r in published(settings, WIDER).to_pylist()) + 1


@pytest.mark.parametrize(
    "step",
    [
        "publish",
        pytest.param("_take_out", marks=pytest.mark.exhaustive),
        pytest.param("bring_in", marks=pytest.mark.exhaustive),
        pytest.param("ledger", marks=pytest.mark.exhaustive),
    ],
)
def test_a_replay_that_died_is_settled_by_the_next(
    step: str, spark: Any, settings: Settings, write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest.run(spark, settings, FEED, [write(feed_log())])
    now_has(settings, WIDER)
    where = {"publish": "spark_jobs.ingest.publish", "ledger": "lakehouse.ledger.Ledger.write"}
    with monkeypatch.context() as patch:
        patch.setattr(where.get(step, f"spark_jobs.replay.{step}"), die)
        with pytest.raises(Killed):
            replay.run(spark, settings, WIDER)
    again = replay.run(spark, settings, WIDER, reason="label_out_of_range")
    out = step in ("ledger", "_take_out")
    assert (again.accepted, len(again.settled)) == (0 if out else 3, 0 if step == "bring_in" else 1)
    assert [reason for reason, _ in held(settings, FEED)] == ["impression_conflict", "nan_or_infinity"]
    table = published(settings, WIDER).to_pylist()
    assert sum(len(r["item_id"]) for r in table) == len(feed_log()) - 2


@pytest.mark.exhaustive
def test_nothing_that_passes_changes_the_reasons_alone(spark: Any, settings: Settings, write: Any) -> None:
    ingest.run(spark, settings, FEED, [write(feed_log())], batch_id="monday")
    now_has(settings, narrow := changed(FEED, range=[0, 1], required=True))
    before = open_catalog(settings).load_table(FEED.table()).current_snapshot()
    done = replay.run(spark, settings, narrow, reason="label_out_of_range", batch_id="monday")
    assert (done.tried, done.accepted, done.still) == (3, 0, {"label_out_of_range": 3})
    assert open_catalog(settings).load_table(FEED.table()).current_snapshot() == before
    assert replay.run(spark, settings, narrow, batch_id="sunday").tried == 0


@pytest.mark.exhaustive
def test_values_come_back_exactly_or_not_at_all(spark: Any, settings: Settings, write: Any) -> None:
    """Floats of every size, times to the microsecond without a zone, vectors, ragged lists, nulls, texts, bytes."""
    spec, rng = SPECS["video"], np.random.default_rng(3)
    data = json.loads(spec.to_json())
    data["labels"]["watch_seconds"]["range"] = [-1, 0]
    narrow = parse_spec(data)
    rows = raw_log(spec, users=3).to_pylist()
    for i, row in enumerate(rows):
        bits = rng.integers(0, 2**32, 7, dtype=np.uint32).view(np.float32)
        some = [float(v) if np.isfinite(v) else -0.0 for v in bits]
        row |= {"session": i, "look": some[:3], "taste": some[3:], "device": 'tv "ü"\n\\' if i % 2 else None}
        row |= {"t": datetime(2026, 3, 9, 1, 2, 3, 100_000 + i), "watch_seconds": 5e-40}
    rows.append(rows[0] | {"session": len(rows), "watch_seconds": None})  # a batch is not bad as a whole
    raw = pa.Table.from_pylist(rows, schema=raw_log(spec, users=1).schema)
    folder = write(raw.append_column("payload", pa.array([bytes([i, 255]) for i in range(len(rows))], pa.binary())))
    ingest.run(spark, settings, narrow, [folder])
    assert len(held(settings, narrow)) == len(rows) - 1
    now_has(settings, spec)

    table = f"lake.{spec.table('quarantine')}"
    one = "row = 0 AND file LIKE '%-0.parquet'"
    text = spark.table(table).where(one).select("raw").collect()[0][0]
    spark.sql(f"UPDATE {table} SET raw = replace(raw, 'E-40', '0E-40') WHERE {one}")
    done = replay.run(spark, settings, spec)
    assert (done.accepted, done.left) == (len(rows) - 2, {INEXACT: 1})
    spark.createDataFrame([(text,)], "raw string").createOrReplaceTempView("kept")
    spark.sql(f"UPDATE {table} SET raw = (SELECT raw FROM kept) WHERE {one}")
    assert replay.run(spark, settings, spec).accepted == 1

    whole = parse_spec(json.loads(spec.to_json()) | {"name": "whole"})
    ingest.run(spark, settings, whole, [folder])
    assert rows_of(published(settings, spec), set()) == rows_of(published(settings, whole), set())


@pytest.mark.exhaustive
def test_what_a_later_row_overruled_is_not_a_raw_row(spark: Any, settings: Settings, write: Any) -> None:
    spec, raw = SPECS["shop"], raw_log(SPECS["shop"], users=2)
    newer = pa.Table.from_pylist([raw.to_pylist()[0] | {"version": 9, "brand": "new"}], schema=raw.schema)
    ingest.run(spark, settings, spec, [write(raw)])
    ingest.run(spark, settings, spec, [write(newer, "newer")])
    done = replay.run(spark, settings, spec, reason="impression_conflict")
    assert (done.tried, done.left) == (0, {OVERRULED: 1})


def test_requests_made_of_pauses_are_refused(spark: Any, settings: Settings) -> None:
    data = json.loads(FEED.to_json())
    data["keys"]["request_id"] = {"gap": "30m"}
    with pytest.raises(RawDataError, match="whole run of impressions"):
        replay.run(spark, settings, parse_spec(data))
