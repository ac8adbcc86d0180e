"""Late labels: whatever comes first, and wherever a job dies, the newest label of each impression stands."""

from __future__ import annotations

import itertools
import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from lakehouse.catalog import open_catalog
from lakehouse.errors import RawDataError, SpecError
from lakehouse.settings import Settings
from lakehouse.spec import DatasetSpec, parse_spec
from lakehouse.upkeep.health import live_files
from spark_jobs import ingest, label_batch
from spark_jobs.errors import BatchRefusedError
from spark_jobs.label_batch import run as run_labels
from spark_jobs.pending import Pending
from tests.spark_jobs.conftest import published, rows_of
from tests.spark_jobs.plain_labels import LOG, TOLD, label_rows, labelled_log, labelled_spec, plain_labelled
from tests.spark_jobs.test_exactly_once import Killed, die
from tests.spark_jobs.test_ingest_rules import ordered
from tests.spark_jobs.test_merge import QUIET, RANKS

pytestmark = pytest.mark.spark
names = itertools.count()
T0 = datetime(2026, 5, 1, 22, tzinfo=UTC)
SPEC = parse_spec(
    {
        "name": "seen",
        "keys": {"user_id": "u", "request_id": "r", "request_ts": "ts", "item_id": "i"},
        "request_features": {"country": "string"},
        "labels": {
            "click": {"type": "float", "range": [0, 1], "time": "click_ts"},
            "buy": {"type": "bool", "time": "buy_ts"},
        },
        "label_files": {"item_id": "product", "labels": {"click": "clicked"}, "times": {"click": "at", "buy": "at"}},
        "partition": {"grain": "day", "buckets": 2},
    }
)


def check_order(seed: int, rule: str, spark: Any, settings: Settings, folder: Path) -> None:
    draw = random.Random(seed)
    spec, rows = labelled_spec(f"labelled_{rule}_{next(names)}", rule), labelled_log(seed)
    told = label_rows(seed, rows)
    parts: list[tuple[str, list[Any]]] = []
    for kind, of in (("log", rows), ("labels", told)):
        shuffled = draw.sample(of, len(of))
        cut = draw.randint(1, len(of) - 1)
        parts += [(kind, shuffled[:cut]), (kind, shuffled[cut:])]
    draw.shuffle(parts)
    for i, (kind, part) in enumerate(parts):
        path = folder / f"{spec.name}-{i}.parquet"
        pq.write_table(pa.Table.from_pylist(part, schema=LOG if kind == "log" else TOLD), path)
        if kind == "log":
            ingest.run(spark, settings, spec, [path])
        else:
            report = run_labels(spark, settings, spec, [path])
            assert report.labels == report.matched + report.waiting
    expected = plain_labelled(rows, told, spec)
    assert rows_of(published(settings, spec), RANKS) == sorted(
        expected, key=lambda r: (r["user_id"], r["request_id"], repr(ordered(r, spec)))
    )
    known = {(r["user_id"], r["request_id"], item) for r in expected for item in r["item_id"]}
    for one in published(settings, spec, "pending_labels").to_pylist():
        assert (one["user_id"], one["request_id"], one["item_id"]) not in known or one["time"] > T0 + timedelta(days=7)


@pytest.mark.exhaustive
@hypothesis_settings(max_examples=1, **QUIET)
@given(seed=st.integers(1, 2**32), rule=st.sampled_from(["split", "first", "latest"]))
def test_any_order_of_impressions_and_labels_gives_the_same_table(
    seed: int, rule: str, spark: Any, settings: Settings, tmp_path: Path
) -> None:
    check_order(seed, rule, spark, settings, tmp_path)


@pytest.mark.exhaustive
@pytest.mark.parametrize("rule", ["split", "first", "latest"])
@hypothesis_settings(max_examples=15, **QUIET)
@given(seed=st.integers(0, 2**32))
def test_many_orders(seed: int, rule: str, spark: Any, settings: Settings, tmp_path: Path) -> None:
    check_order(seed, rule, spark, settings, tmp_path)


def shown(*impressions: tuple[int, int, int], at: datetime = T0) -> pa.Table:
    """A log of (user, request, item), without labels."""
    rows = [{"u": u, "r": r, "i": i, "ts": at, "country": "de"} for u, r, i in impressions]
    times = {name: pa.timestamp("us", "UTC") for name in ("ts", "click_ts", "buy_ts")}
    kinds = {"u": pa.int64(), "r": pa.int64(), "i": pa.int64(), "country": pa.string()}
    return pa.Table.from_pylist(rows, schema=pa.schema(kinds | times | {"click": pa.float32(), "buy": pa.bool_()}))


def told(*labels: dict[str, Any], dated: bool = False) -> pa.Table:
    """Label rows of user 1, request 1, item 1, an hour after the request, unless they say otherwise."""
    base = {"u": 1, "r": 1, "product": 1, "clicked": None, "buy": None, "at": T0 + timedelta(hours=1), "ts": T0}
    kinds = {"u": pa.int64(), "r": pa.int64(), "product": pa.int64(), "clicked": pa.float32(), "buy": pa.bool_()}
    kinds |= {"at": pa.timestamp("us", "UTC")} | ({"ts": pa.timestamp("us", "UTC")} if dated else {})
    return pa.Table.from_pylist([base | label for label in labels], schema=pa.schema(kinds))


def clicks(settings: Settings, spec: DatasetSpec = SPEC) -> dict[tuple[int, int, int], Any]:
    """The click of each impression."""
    return {
        (row["user_id"], row["request_id"], item): click
        for row in published(settings, spec).to_pylist()
        for item, click in zip(row["item_id"], row["click"], strict=True)
    }


def waiting(settings: Settings) -> list[tuple[int, str, str]]:
    rows = published(settings, SPEC, "pending_labels").to_pylist()
    return sorted((row["item_id"], row["label"], row["value"]) for row in rows)


def test_labels_update_in_place_and_wait_for_their_impression(spark: Any, settings: Settings, write: Any) -> None:
    """Only rows that change are written; the same files again change nothing; older labels change nothing."""
    ingest.run(spark, settings, SPEC, [write(shown((1, 1, 1), (1, 1, 2), (2, 1, 1), (3, 3, 3)), "log")])
    table = open_catalog(settings).load_table(SPEC.table())
    before = {file.file_path: file for _, file in live_files(table)}
    late = timedelta(hours=2)
    first = write(
        told({"clicked": 1.0, "buy": True}, {"clicked": 0.5, "at": T0 + late}, {"product": 3, "clicked": 1.0}), "one"
    )
    report = run_labels(spark, settings, SPEC, [first])
    assert (report.rows, report.labels, report.matched, report.waiting, report.updated, report.requests) == (
        *(3, 4, 3, 1),
        *(2, 1),
    )
    assert clicks(settings) == {(1, 1, 1): 0.5, (1, 1, 2): None, (2, 1, 1): None, (3, 3, 3): None}
    assert [row["buy"] for row in published(settings, SPEC).to_pylist() if row["user_id"] == 1] == [[True, None]]
    assert waiting(settings) == [(3, "click", "1.0")]
    after = {file.file_path: file for _, file in live_files(table.refresh())}
    new = [after[path] for path in set(after) - set(before)]
    assert set(before) <= set(after)
    assert sorted((file.content.name, file.record_count) for file in new) == [("DATA", 1), ("POSITION_DELETES", 1)]
    assert run_labels(spark, settings, SPEC, [first]).skipped

    older = run_labels(spark, settings, SPEC, [write(told({"clicked": 0.0}), "older")])
    assert (older.matched, older.updated, older.requests) == (1, 0, 0)
    assert {file.file_path for _, file in live_files(table.refresh())} == set(after)

    ingest.run(spark, settings, SPEC, [write(shown((1, 1, 3)), "third")])
    assert clicks(settings)[1, 1, 3] == 1.0
    assert waiting(settings) == []


@pytest.mark.exhaustive
def test_labels_are_found_by_the_requests_time_or_by_their_own(spark: Any, settings: Settings, write: Any) -> None:
    """Files with the request's time are looked up in its partitions; others over `label_horizon` before the label."""
    ingest.run(spark, settings, SPEC, [write(shown((1, 1, 1), (1, 2, 1)), "log")])
    six, eight = T0 + timedelta(days=6), T0 + timedelta(days=8)
    undated = told({"clicked": 1.0, "at": six}, {"r": 2, "clicked": 1.0, "at": eight})
    report = run_labels(spark, settings, SPEC, [write(undated, "undated")])
    assert (report.matched, report.waiting) == (1, 1)  # nobody looks for a request of eight days ago
    dated = told({"r": 2, "clicked": 0.5, "at": six}, {"clicked": 0.5, "at": eight}, dated=True)
    report = run_labels(spark, settings, SPEC, [write(dated, "dated")])
    assert (report.matched, report.waiting) == (1, 1)  # and nobody applies one that comes after the horizon
    assert clicks(settings) == {(1, 1, 1): 1.0, (1, 2, 1): 0.5}


def test_bad_labels_go_to_quarantine(spark: Any, settings: Settings, write: Any) -> None:
    ingest.run(spark, settings, SPEC, [write(shown((1, 1, 1)), "log")])
    rows = [
        {"clicked": 7.0},
        {"clicked": float("nan")},
        {"clicked": 1.0, "u": None},
        {"clicked": 1.0, "product": None},
        {"clicked": 1.0, "at": None},
        {},
        {"clicked": 0.25},
    ]
    folder = write(told(*rows), "bad")
    report = run_labels(spark, settings, SPEC, [folder])
    reasons = ("bad_item", "label_out_of_range", "nan_or_infinity", "no_label", "null_key", "null_label_time")
    assert report.quarantined == dict.fromkeys(reasons, 1)
    assert clicks(settings) == {(1, 1, 1): 0.25}
    held = published(settings, SPEC, "quarantine").to_pylist()
    assert {(r["reason"], json.loads(r["raw"])["clicked"]) for r in held} >= {("label_out_of_range", 7.0)}
    strict = settings.model_copy(update={"ingest": settings.ingest.model_copy(update={"max_bad_share": 0.1})})
    with pytest.raises(BatchRefusedError, match=r"rows of labels .* would go to quarantine"):
        run_labels(spark, strict, SPEC, [write(told(*rows[:2]), "worse")])
    with pytest.raises(RawDataError, match="hold none of click, buy: their columns are i, u"):
        run_labels(spark, settings, SPEC, [write(pa.table({"u": [1], "i": [1]}), "none")])
    untimed = parse_spec(SPEC.model_dump(mode="json") | {"labels": {"click": "float"}, "label_files": {}})
    with pytest.raises(SpecError, match="no label has a time"):
        run_labels(spark, settings, untimed.model_copy(update={"name": "untimed"}), [folder])


def test_a_batch_of_labels_that_dies_anywhere_is_made_good(
    spark: Any, settings: Settings, write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each step a batch of its own, on one table: labels of one impression, of one to come, and a bad row."""
    ingest.run(spark, settings, SPEC, [write(shown((1, 1, 1), (1, 1, 2)), "log")])
    steps = ["write_pending", "publish", "lakehouse.ledger.Ledger.write"]
    for n, step in enumerate(steps, start=1):
        at, before = T0 + timedelta(hours=n), clicks(settings)
        folder = write(
            told({"clicked": n / 8, "at": at}, {"product": 10 * n, "clicked": 0.5}, {"u": None, "at": at}), f"labels{n}"
        )
        with monkeypatch.context() as patch:
            patch.setattr(*((step, die) if "." in step else (label_batch, step, die)))
            with pytest.raises(Killed):
                run_labels(spark, settings, SPEC, [folder])
        published_first = "Ledger" in step
        assert clicks(settings) == ({**before, (1, 1, 1): n / 8} if published_first else before)
        assert run_labels(spark, settings, SPEC, [folder]).skipped == published_first
        assert clicks(settings) == {(1, 1, 1): n / 8, (1, 1, 2): None}
        assert waiting(settings) == [(10 * i, "click", "0.5") for i in range(1, n + 1)]
        assert len(published(settings, SPEC, "quarantine")) == n
    assert len(published(settings, SPEC, "ledger")) == 2 + 2 * len(steps)  # two files a batch
    assert set(open_catalog(settings).load_table(SPEC.table()).metadata.refs) == {"main"}


@pytest.mark.exhaustive
def test_an_ingest_that_dies_before_it_takes_out_applied_labels(
    spark: Any, settings: Settings, write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The label stays behind, which does no harm, and goes when it has waited long enough, without a word."""
    run_labels(spark, settings, SPEC, [write(told({"clicked": 1.0}, {"product": 9, "clicked": 0.5}), "early")])
    log = write(shown((1, 1, 1)), "log")
    with monkeypatch.context() as patch:
        patch.setattr(Pending, "take_out", die)
        with pytest.raises(Killed):
            ingest.run(spark, settings, SPEC, [log])
    assert ingest.run(spark, settings, SPEC, [log]).skipped
    assert clicks(settings) == {(1, 1, 1): 1.0}
    assert waiting(settings) == [(1, "click", "1.0"), (9, "click", "0.5")]
    newer = write(told({"clicked": 0.0, "at": T0 + timedelta(hours=3)}), "newer")
    later = datetime.now(UTC) + timedelta(days=8)
    with monkeypatch.context() as patch:
        patch.setattr(label_batch, "drop_overdue", die)
        with pytest.raises(Killed):
            run_labels(spark, settings, SPEC, [newer], now=later)
    report = run_labels(spark, settings, SPEC, [write(told({"clicked": 0.1}), "older")], now=later)
    assert report.dropped == 1
    assert clicks(settings) == {(1, 1, 1): 0.0}
    assert waiting(settings) == []
    held = published(settings, SPEC, "quarantine").to_pylist()
    assert [(r["reason"], r["detail"], json.loads(r["raw"])["product"]) for r in held] == [
        ("label_without_impression", "click", 9)
    ]


@pytest.mark.parametrize(
    "first",
    [pytest.param("labels", marks=pytest.mark.exhaustive), pytest.param("impressions", marks=pytest.mark.exhaustive)],
)
def test_a_label_and_its_impression_at_the_same_time(
    first: str, spark: Any, settings: Settings, write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each job is overtaken by the other when it is about to publish: it looks again."""
    ingest.run(spark, settings, SPEC, [write(shown((1, 1, 2)), "first")])
    log, labels = write(shown((1, 1, 1)), "log"), write(told({"clicked": 1.0}), "labels")
    jobs = {
        "labels": (label_batch, lambda: run_labels(spark, settings, SPEC, [labels])),
        "impressions": (ingest, lambda: ingest.run(spark, settings, SPEC, [log])),
    }
    module, overtaken = jobs.pop(first)
    ((_, other),) = jobs.values()
    real = module.publish

    def publish(*given: Any) -> None:
        monkeypatch.setattr(module, "publish", real)
        other()
        real(*given)

    monkeypatch.setattr(module, "publish", publish)
    overtaken()
    assert clicks(settings) == {(1, 1, 1): 1.0, (1, 1, 2): None}
    assert waiting(settings) == []
