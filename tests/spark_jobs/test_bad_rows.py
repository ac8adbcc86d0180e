"""Bad rows go to quarantine, each with its reason, alone; the table holds the rest."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pytest

from lakehouse.settings import Settings
from spark_jobs.errors import BatchRefusedError
from spark_jobs.ingest import run
from tests.spark_jobs.conftest import published, rows_of
from tests.support.datasets import SPECS, T0, raw_log, reference_requests
from tests.support.raw_logs import RAW_SCHEMAS

pytestmark = pytest.mark.spark
Row = dict[str, Any]


def last(values: list[Any], value: Any) -> list[Any]:
    return [*values[:-1], value]


FEED: dict[str, tuple[str, Callable[[Row], Row]]] = {
    "no user": ("null_key", lambda _: {"uid": None}),
    "no request": ("null_key", lambda _: {"rid": None}),
    "no time": ("null_key", lambda _: {"opened_at": None}),
    "no item": ("bad_item", lambda _: {"iid": None}),
    "label of 2": ("label_out_of_range", lambda _: {"click": 2.0}),
    "infinite label": ("nan_or_infinity", lambda _: {"click": math.inf}),
    "NaN candidate feature": ("nan_or_infinity", lambda _: {"price": math.nan}),
    "candidate feature out of range": ("feature_out_of_range", lambda _: {"price": -1.0}),
    "infinite request feature": ("nan_or_infinity", lambda _: {"score": -math.inf}),
    "request feature out of range": ("feature_out_of_range", lambda _: {"hour": 24}),
    "event feature out of range": ("feature_out_of_range", lambda r: {"history_action": last(r["history_action"], 9)}),
    "lists of unequal length": ("list_length_mismatch", lambda r: {"history_action": r["history_action"][:-1]}),
    "one list of a sequence missing": ("list_length_mismatch", lambda _: {"history_item_id": None}),
    "an event at the request's time": (
        "event_not_before_request",
        lambda r: {"history_ts": last(r["history_ts"], r["opened_at"])},
    ),
    "events out of order": ("sequence_out_of_order", lambda r: {"history_ts": r["history_ts"][::-1]}),
    "an event without a time": (
        "null_event_time",
        lambda r: {"history_ts": [r["history_ts"][0], None, *r["history_ts"][2:]]},
    ),
    "too many events": (
        "list_too_long",
        lambda _: {
            "history_item_id": [1] * 65,
            "history_action": [1] * 65,
            "history_ts": [T0 - timedelta(days=9)] * 65,
        },
    ),
}


def test_each_fault_of_a_row_is_named_and_the_rest_is_published(spark: Any, settings: Settings, write: Any) -> None:
    spec = SPECS["feed"]
    good = raw_log(spec, users=6, history=8)
    model = next(r for r in good.to_pylist() if len(r["history_ts"]) >= 4)
    bad = []
    for i, (_, change) in enumerate(FEED.values()):
        row = {**model, "rid": 10_000 + i, "iid": 5_000 + i}  # a request of its own
        bad.append({**row, **change(row)})
    late = {**model, "iid": 6_000, "opened_at": model["opened_at"] + timedelta(hours=7), "history_ts": None}
    late |= {"history_item_id": None, "history_action": None}
    raw = pa.concat_tables([good, pa.Table.from_pylist([*bad, late], schema=RAW_SCHEMAS["feed"])])
    report = run(spark, settings, spec, [write(raw)])

    assert rows_of(published(settings, spec)) == rows_of(reference_requests(good, spec))
    held = published(settings, spec, "quarantine").to_pylist()
    by_item = {json.loads(r["raw"])["iid"]: r for r in held}
    for i, (what, (reason, _)) in enumerate(FEED.items()):
        key = None if what == "no item" else 5_000 + i
        assert by_item[key]["reason"] == reason, what
    assert by_item[6_000]["reason"] == "request_ts_conflict"
    assert sum(report.quarantined.values()) == len(held) == len(bad) + 1
    assert report.raw_rows == report.accepted_rows + report.duplicate_rows + len(held)
    lossless = json.loads(by_item[5_004]["raw"])
    assert lossless["opened_at"] == model["opened_at"].isoformat(timespec="microseconds").replace("+00:00", "Z")
    assert (lossless["country"], lossless["history_item_id"]) == (model["country"], model["history_item_id"])
    assert set(lossless) == set(good.schema.names)
    assert {r["batch_id"] for r in held} == {report.batch_id}


def test_bad_vectors_and_missing_values(spark: Any, settings: Settings, write: Any) -> None:
    spec = SPECS["video"]
    good = raw_log(spec, users=4)
    model = good.to_pylist()[0]
    changes = {
        "vector_length": [{"look": [1.0]}, {"taste": [1.0, 2.0]}, {"look": [1.0, None, 2.0]}],
        "missing_value": [{"length": None}],
        "nan_or_infinity": [{"taste": [math.nan, 0.0, 0.0, 0.0]}, {"look": [0.0, math.inf, 0.0]}],
    }
    bad = [
        {**model, "session": 70_000 + i, **change}
        for i, change in enumerate(c for listed in changes.values() for c in listed)
    ]
    raw = pa.concat_tables([good, pa.Table.from_pylist(bad, schema=RAW_SCHEMAS["video"])])
    report = run(spark, settings, spec, [write(raw)])
    assert report.quarantined == {reason: len(listed) for reason, listed in sorted(changes.items())}
    assert rows_of(published(settings, spec)) == rows_of(reference_requests(good, spec))


@pytest.mark.exhaustive
def test_a_bad_variant_does_not_give_its_time_to_the_others(spark: Any, settings: Settings, write: Any) -> None:
    """The earliest row of a request holds a NaN: the request's time is that of its sound rows."""
    spec = SPECS["feed"]
    good = raw_log(spec, users=3)
    model = good.to_pylist()[0]
    wrong = {**model, "opened_at": model["opened_at"] - timedelta(minutes=1), "score": math.nan, "history_ts": []}
    wrong |= {"history_item_id": [], "history_action": []}
    raw = pa.concat_tables([good, pa.Table.from_pylist([wrong], schema=RAW_SCHEMAS["feed"])])
    report = run(spark, settings, spec, [write(raw)])
    assert report.quarantined == {"nan_or_infinity": 1}
    assert rows_of(published(settings, spec)) == rows_of(reference_requests(good, spec))


@pytest.mark.exhaustive
def test_bad_rows_that_hide_bad_rows_that_hide_sound_ones(spark: Any, settings: Settings, write: Any) -> None:
    """Without the bad row at 0 h the one at 7 h is in time, and without that one the sound one at 14 h."""
    spec = SPECS["feed"]
    good = raw_log(spec, users=2)
    empty: Row = {"history_ts": [], "history_item_id": [], "history_action": []}
    model = {**good.to_pylist()[0], "rid": 10_000, **empty}
    chain = [
        {**model, "iid": i, "opened_at": model["opened_at"] + timedelta(hours=7 * i), "score": score}
        for i, score in enumerate([math.nan, math.inf, 0.5])
    ]
    raw = pa.concat_tables([good, pa.Table.from_pylist(chain, schema=RAW_SCHEMAS["feed"])])
    report = run(spark, settings, spec, [write(raw)])
    assert report.quarantined == {"nan_or_infinity": 2}
    assert report.raw_rows == report.accepted_rows + report.duplicate_rows + 2
    sound = pa.concat_tables([good, pa.Table.from_pylist(chain[2:], schema=RAW_SCHEMAS["feed"])])
    assert rows_of(published(settings, spec)) == rows_of(reference_requests(sound, spec))


def test_later_words_on_an_impression_do_not_refuse_the_batch(spark: Any, settings: Settings, write: Any) -> None:
    spec = SPECS["feed"]
    raw = raw_log(spec, users=4)
    flipped = pa.Table.from_pylist([{**r, "click": 1 - r["click"]} for r in raw.to_pylist()], schema=raw.schema)
    strict = settings.model_copy(update={"ingest": settings.ingest.model_copy(update={"max_bad_share": 0.0})})
    report = run(spark, strict, spec, [write(pa.concat_tables([raw, flipped]))])
    assert report.quarantined == {"impression_conflict": len(raw)}
    assert report.accepted_rows == len(raw)


def test_too_many_bad_rows_refuse_the_batch(spark: Any, settings: Settings, write: Any) -> None:
    spec = SPECS["shop"]
    rows = raw_log(spec, users=4).to_pylist()
    for row in rows[:6]:
        row["ordered"] = 7.0
    raw = pa.Table.from_pylist(rows, schema=RAW_SCHEMAS["shop"])
    strict = settings.model_copy(update={"ingest": settings.ingest.model_copy(update={"max_bad_share": 0.01})})
    with pytest.raises(BatchRefusedError, match=r"ceiling is 1\.0%.*label_out_of_range 6") as error:
        run(spark, strict, spec, [write(raw)])
    assert "user ***" in str(error.value), "shop's users are sensitive"
    assert len(published(settings, spec)) == 0
    assert len(published(settings, spec, "ledger")) == 0
    run(spark, settings, spec, [write(raw)])
    assert len(published(settings, spec, "quarantine")) == 6
