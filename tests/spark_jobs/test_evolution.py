"""Ingest before and after each kind of change of the spec: old rows, old raw files and late rows fit together."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lakehouse import quality
from lakehouse.catalog import open_catalog
from lakehouse.errors import FormatError, RawDataError
from lakehouse.evolution import apply, plan
from lakehouse.report import dedup_report
from lakehouse.settings import Settings
from lakehouse.spec import DatasetSpec, parse_spec
from lakehouse.tags import create_tag
from spark_jobs import backfill, ingest, verify, views
from tests.lakehouse.test_evolution import EVERYTHING, changed
from tests.spark_jobs.conftest import published, rows_of
from tests.support.datasets import SPECS, raw_log, reference_requests, write_request_table

pytestmark = pytest.mark.spark
FEED = SPECS["feed"]
LATER: dict[str, Any] = EVERYTHING | {"request_features.speed": {"type": "float", "required": True, "default": 1.5}}


def new_log(raw: pa.Table, seed: int = 0) -> pa.Table:
    """The log as it is written after the change: with the new columns, without the dropped one, with wider times."""
    rng, rows = np.random.default_rng(seed), []
    for row in raw.to_pylist():
        events = len(row["history_ts"])
        rows.append(
            {k: v for k, v in row.items() if k != "country"}
            | {"device": f"d{row['uid'] % 2}", "speed": 2.0, "stock": int(rng.integers(9)), "like": 1.0}
            | {"history_dwell": [0.5] * events, "searched_term": ["t"]}
        )
    more = {"device": pa.string(), "speed": pa.float32(), "stock": pa.int32(), "like": pa.float32()}
    more |= {"history_dwell": pa.list_(pa.float32()), "searched_term": pa.list_(pa.string())}
    kept = [f for f in raw.schema if f.name != "country"]
    return pa.Table.from_pylist(rows, schema=pa.schema([*kept, *more.items()]))


def evolve(settings: Settings, spec: DatasetSpec) -> None:
    catalog = open_catalog(settings)
    apply(catalog, plan(catalog.load_table(spec.table()), spec), settings)


@pytest.mark.exhaustive
def test_old_rows_old_files_and_late_rows_fit_together(spark: Any, settings: Settings, write: Any) -> None:
    """First batch, change, then: old files with late rows of stored requests, new files, and new late variants."""
    raw = raw_log(FEED, users=6, requests_per_user=2, fanout=4)
    users = np.array(raw["uid"].to_pylist())
    old, fresh = raw.filter(pa.array(users <= 4)), raw.filter(pa.array(users > 4))
    late, first = old.slice(0, 5), old.slice(5)
    spec = changed(FEED, LATER)
    places = [write(first, "first")]
    ingest.run(spark, settings, FEED, places)
    stored = {(r["user_id"], r["request_id"]): r["request_hash"] for r in published(settings, FEED).to_pylist()}
    with pytest.raises(FormatError, match="reqlake spec plan"):
        ingest.run(spark, settings, spec, [write(late, "late")])
    evolve(settings, spec)

    for name, part in (("late", late), ("fresh", new_log(fresh)), ("again", first.slice(0, 3).drop_columns("country"))):
        places.append(write(part, name))
        report = ingest.run(spark, settings, spec, places)
        assert report.quarantined == {}
        assert report.raw_rows == report.accepted_rows + report.duplicate_rows == len(part)
        assert report.duplicate_rows == (3 if name == "again" else 0)

    rows = published(settings, spec).to_pylist()
    told = {(r["user_id"], r["request_id"]): r["request_hash"] for r in rows}
    assert len(told) == len(rows), "late rows of before are no variants of their own"
    assert {key: told[key] for key in stored} == stored, "a row keeps its hash, merged or not"

    # The same rows under the new spec from the first, with nulls where old files have no column.
    whole = parse_spec(json.loads(spec.to_json()) | {"name": "whole"})
    nulls = new_log(old)
    for column in ("device", "speed", "stock", "like", "history_dwell", "searched_term"):
        i = nulls.schema.get_field_index(column)
        nulls = nulls.set_column(i, nulls.schema.field(i), pa.nulls(len(nulls), nulls.schema.field(i).type))
    nulls = nulls.set_column(
        nulls.schema.get_field_index("history_dwell"),
        "history_dwell",
        pa.array([[None] * len(h) for h in nulls["history_ts"].to_pylist()], pa.list_(pa.float32())),
    )
    ingest.run(spark, settings, whole, [write(pa.concat_tables([nulls, new_log(fresh)]), "whole")])

    def plain(table: pa.Table) -> list[dict[str, Any]]:
        found = rows_of(table)
        for row in found:
            for name in ("stock", "like", "history_dwell"):
                row[name] = row[name] if any(v is not None for v in row[name] or [None]) else None
        return found

    assert plain(published(settings, spec)) == plain(published(settings, whole))
    found = verify.run(spark, settings, spec, places)
    assert found.ok, found
    assert quality.validate(spark, settings, spec).passed
    assert dedup_report(settings, spec, places).candidates == len(raw)
    views.apply(spark, settings, spec)
    flat = spark.sql(f"SELECT count(*), count(stock) FROM lake.{spec.namespace}_spark.feed_impressions").collect()[0]
    assert tuple(flat) == (len(raw), len(fresh))

    # A late row that does have another device is a variant, as it would have been at once.
    other = new_log(late.slice(0, 1))
    other = other.set_column(other.schema.get_field_index("iid"), "iid", pa.array([9_999]))
    report = ingest.run(spark, settings, spec, [write(other, "other")])
    assert (report.requests, report.merged_requests) == (1, 1)


@pytest.mark.exhaustive
def test_an_original_column_may_not_go_missing(spark: Any, settings: Settings, write: Any) -> None:
    """Only columns that came later may lack: a log that lost one is refused by name, as ever."""
    raw = raw_log(FEED, users=2)
    ingest.run(spark, settings, FEED, [write(raw)])
    evolve(settings, spec := changed(FEED, {"request_features.device": "string"}))
    later = raw.set_column(raw.schema.get_field_index("iid"), "iid", pa.array([7_000 + i for i in range(len(raw))]))
    with pytest.raises(RawDataError, match="has no column hour"):
        ingest.run(spark, settings, spec, [write(later.drop_columns("hour"), "lost")])
    told = later.slice(2).append_column("device", pa.array(["x"] * (len(raw) - 2)))
    report = ingest.run(spark, settings, spec, [write(later.slice(0, 2), "old"), write(told, "new")])
    assert report.quarantined == {}
    assert {r["device"] for r in published(settings, spec).to_pylist()} == {None, "x"}


def test_a_feature_that_a_backfill_brought_is_one_that_came_later(spark: Any, settings: Settings, write: Any) -> None:
    raw = raw_log(FEED, users=3)
    ingest.run(spark, settings, FEED, [write(raw.slice(1))])
    keys = published(settings, FEED).select(["user_id", "request_id"]).to_pylist()
    source = write(pa.Table.from_pylist([k | {"age": 7} for k in keys]), "ages", files=1)
    spec = changed(FEED, {"request_features.age": "long"})
    backfill.run(spark, settings, FEED, "age", source)
    late = raw.slice(0, 1).append_column("age", pa.array([7]))
    report = ingest.run(spark, settings, spec, [write(late, "late")])
    assert (report.merged_requests, report.accepted_rows) == (1, 1)
    assert len(published(settings, spec)) == len(keys)


def test_spark_reads_a_snapshot_of_before_with_the_columns_of_then(spark: Any, settings: Settings) -> None:
    rows = reference_requests(raw_log(FEED, users=3), FEED)
    table = write_request_table(settings, FEED, rows, files=1)
    before = table.refresh().current_snapshot()
    assert before is not None
    create_tag(open_catalog(settings), FEED, settings, "v1")
    evolve(settings, changed(FEED, LATER))
    after = table.refresh().current_snapshot()
    assert after is not None

    def read(version: str) -> Any:
        return spark.read.option("versionAsOf", version).table(f"lake.{FEED.table()}")

    scores = sorted(rows["score"].to_pylist(), key=repr)
    for version in (str(before.snapshot_id), "v1"):
        old = read(version)
        assert old.columns == rows.schema.names, "no column of later, and the dropped ones"
        assert sorted((row["score"] for row in old.select("score").collect()), key=repr) == scores
    now = read(str(after.snapshot_id))
    assert {"device", "affinity"} <= set(now.columns)
    assert "country" not in now.columns
    assert sorted((row["affinity"] for row in now.select("affinity").collect()), key=repr) == scores
    assert now.where("device IS NOT NULL").count() == 0
