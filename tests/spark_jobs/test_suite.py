"""The suite against requests that break each rule: the rule is named, with the request's key, or masked."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lakehouse.catalog import open_catalog
from lakehouse.errors import AuditError
from lakehouse.quality import ValidationReport, audit, suite_rules, validate
from lakehouse.quality.results import by_batch, keep_results, read_results
from lakehouse.quality.volume import Observation
from lakehouse.settings import Settings
from spark_jobs import ingest
from tests.support.datasets import SPECS, raw_log, reference_requests, write_request_table

pytestmark = pytest.mark.spark
BROKEN: dict[str, tuple[str, Any]] = {
    "feed": {
        "click_parallel": lambda r: {"click": r["click"][:-1]},
        "position_ascending": lambda r: {"position": [9, *r["position"][1:]]},
        "history_action_aligned": lambda _: {"history_action": [1]},
        "history_max_length": lambda _: {"history_item_id": [1] * 65},
        "history_ts_before_request": lambda r: {"history_ts": [r["request_ts"]]},
        "history_ts_in_order": lambda r: {"history_ts": [r["request_ts"] - timedelta(days=d) for d in (1, 2)]},
        "hour_in_range": lambda _: {"hour": 24},
        "score_finite": lambda _: {"score": float("nan")},
        "price_finite": lambda r: {"price": [float("-inf")] * len(r["price"])},
        "price_in_range": lambda r: {"price": [-1.0] * len(r["price"])},
        "click_in_range": lambda r: {"click": [2.0] * len(r["click"])},
        "history_action_in_range": lambda r: {"history_action": [7] * len(r["history_action"])},
    },
    "video": {
        "taste_length": lambda _: {"taste": [1.0]},
        "look_length": lambda r: {"look": [[1.0]] * len(r["item_id"])},
        "taste_finite": lambda _: {"taste": [float("inf")] * 4},
        "look_finite": lambda r: {"look": [[0.0, float("nan"), 0.0]] * len(r["item_id"])},
        "length_not_null": lambda r: {"length": [None] * len(r["item_id"])},
        "item_id_not_null": lambda r: {"item_id": [None] * len(r["item_id"])},
        "has_candidates": lambda _: {"item_id": []},
    },
}


@pytest.mark.parametrize("name", BROKEN)
def test_each_broken_rule_is_named_with_the_request(name: str, spark: Any) -> None:
    spec = SPECS[name]
    requests = reference_requests(raw_log(spec, users=12, requests_per_user=2, fanout=6), spec)
    rows = [r for r in requests.to_pylist() if len(r["item_id"]) >= 3]
    for i, row in enumerate(rows):
        row["request_hash"] = i
    broken = {}
    for (rule, change), row in zip(BROKEN[name].items(), rows, strict=False):
        row.update(change(row))
        broken[rule] = f"(user {row['user_id']}, request {row['request_id']})"
    assert len(broken) == len(BROKEN[name])
    report = audit(frame_of(spark, rows, requests.schema), spec)
    found = {r.rule: r for r in report.results}
    assert set(found) == {"keys_not_null", "keys_unique"} | {rule.name for rule in suite_rules(spec)}
    for rule, key in broken.items():
        assert not found[rule].passed, rule
        assert key in found[rule].examples, rule
    assert found["keys_unique"].passed
    with pytest.raises(AuditError, match=next(iter(broken))):
        report.require()


def test_keys_and_masking(spark: Any) -> None:
    spec = SPECS["shop"]
    requests = reference_requests(raw_log(spec, users=3), spec)
    rows = requests.to_pylist()
    doubled = [*rows, rows[0]]
    found = {r.rule: r for r in audit(frame_of(spark, doubled, requests.schema), spec).results}
    assert [name for name, r in found.items() if not r.passed] == ["keys_unique"]
    assert found["keys_unique"].examples == (f"(user ***, request {rows[0]['request_id']})",)
    rows[1]["request_ts"] = None
    found = {r.rule: r for r in audit(frame_of(spark, rows, requests.schema), spec).results}
    assert [name for name, r in found.items() if not r.passed] == ["keys_not_null"]


def test_a_table_that_no_job_of_ours_wrote_is_validated(spark: Any, settings: Settings) -> None:
    spec = SPECS["feed"]
    write_request_table(settings, spec, reference_requests(raw_log(spec, users=3), spec))
    report = validate(spark, settings, spec)
    assert report.passed
    assert (report.table, report.rows) == ("reqlake.feed_requests", 9)


def frame_of(spark: Any, rows: list[dict[str, Any]], schema: pa.Schema) -> Any:
    from pyspark.sql.pandas.types import from_arrow_schema

    loose = pa.schema([pa.field(f.name, f.type) for f in schema])
    return spark.createDataFrame(pa.Table.from_pylist(rows, schema=loose), from_arrow_schema(loose))


def test_a_batch_is_held_against_the_last_ones_and_its_results_are_kept(
    spark: Any, settings: Settings, write: Any, tmp_path: Path
) -> None:
    """Three batches of a tenth of the rows came before, with every price known."""
    spec, raw = SPECS["feed"], raw_log(SPECS["feed"], users=6)
    catalog = open_catalog(settings)
    for name in ("first", "second", "third"):
        seen = [Observation("volume.requests", 2.0, None, True), Observation("nulls.price", 0.9, None, True)]
        told = ValidationReport(spec.table(), 2, (), 0.0)
        keep_results(catalog, spec, settings, told, batch_id=name, snapshot_id=1, observations=seen)
    quality = settings.quality.model_copy(
        update={"volume_batches": 3, "volume": "refuse", "volume_factor": 3.0, "page": tmp_path / "docs"}
    )
    strict = settings.model_copy(update={"quality": quality})
    with pytest.raises(
        AuditError, match=r"18 requests, 2 in the last batches; nulls of price: .*nothing was published"
    ):
        ingest.run(spark, strict, spec, [write(raw)])
    assert len(catalog.load_table(spec.table()).scan().to_arrow()) == 0
    lenient = settings.model_copy(update={"quality": quality.model_copy(update={"volume": "warn"})})
    report = ingest.run(spark, lenient, spec, [write(raw)])
    assert [w.split(",")[0].split(":")[0] for w in report.warnings] == ["18 requests", "nulls of price"]
    mine = by_batch(read_results(catalog, spec, settings))[-1]
    assert (mine.batch_id, mine.rows, mine.failed) == (report.batch_id, 18, ())
    prices = raw["price"].to_pylist()
    assert mine.numbers["nulls.price"] == pytest.approx(prices.count(None) / len(prices))
    assert mine.numbers["volume.candidates"] == len(raw)
    assert mine.numbers["nulls.country"] > 0
    assert "18" in (tmp_path / "docs" / "feed.html").read_text()
