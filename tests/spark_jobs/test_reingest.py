"""A source that deletes, updates and overwrites: its requests are what one batch of its present rows would give."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.table import Table

from lakehouse.catalog import ensure_namespace, open_catalog
from lakehouse.settings import Settings
from lakehouse.spec import DatasetSpec
from spark_jobs import ingest, verify
from spark_jobs.errors import BatchRefusedError
from spark_jobs.label_batch import run as run_labels
from spark_jobs.sources import TableRange
from tests.spark_jobs.conftest import published, rows_of
from tests.spark_jobs.test_exactly_once import Killed, die
from tests.support.datasets import SPECS, raw_log, reference_requests

pytestmark = pytest.mark.spark
FEED, VIDEO = SPECS["feed"], SPECS["video"]
SOURCE = TableRange("raw.impressions", on_change="reingest")
MERGE_ON_READ = ", ".join(f"'write.{what}.mode' = 'merge-on-read'" for what in ("delete", "update", "merge"))


def source(spark: Any, settings: Settings, raw: pa.Table, by: str | None = None) -> Table:
    """`raw.impressions` with its first rows, deleted from by position."""
    catalog = open_catalog(settings)
    ensure_namespace(catalog, "raw", settings)
    table = catalog.create_table("raw.impressions", raw.schema, properties={"format-version": "2"})
    spark.sql(f"ALTER TABLE lake.raw.impressions SET TBLPROPERTIES ({MERGE_ON_READ})")
    if by is not None:
        spark.sql(f"ALTER TABLE lake.raw.impressions ADD PARTITION FIELD {by}")
    table.refresh().append(raw)
    return table


def same(settings: Settings, spec: DatasetSpec, table: Table) -> bool:
    """Whether the request table is what a plain loop makes of the source's present rows that have a time."""
    present = table.refresh().scan().to_arrow()
    present = present.filter(present[spec.keys.request_ts.column].is_valid())
    return rows_of(published(settings, spec)) == rows_of(reference_requests(present, spec))


@pytest.mark.parametrize(
    "step", ["spark_jobs.ingest.publish", pytest.param("lakehouse.ledger.Ledger.write", marks=pytest.mark.exhaustive)]
)
def test_requests_of_changed_rows_are_made_anew(
    step: str, spark: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = raw_log(FEED, users=3)
    log = source(spark, settings, raw, by="days(opened_at)")
    ingest.run(spark, settings, FEED, SOURCE)
    requests = {row["rid"]: row for row in raw.to_pylist()}
    gone, told, moved = list(requests.values())[:3]
    new = raw.slice(0, 1).to_pylist()[0] | {"uid": 99, "rid": 99_000}
    spark.sql(f"DELETE FROM lake.raw.impressions WHERE rid = {gone['rid']}")
    spark.sql(f"UPDATE lake.raw.impressions SET opened_at = opened_at + INTERVAL 1 DAY WHERE rid = {moved['rid']}")
    spark.createDataFrame([(told["rid"], told["iid"], 1.0), (1, 1, 1.0)], "rid long, iid long, c float").createTempView(
        "clicks"
    )
    spark.sql(
        "MERGE INTO lake.raw.impressions t USING clicks c ON t.rid = c.rid AND t.iid = c.iid "
        "WHEN MATCHED THEN UPDATE SET click = c.c, country = 'xx'"
    )
    spark.catalog.dropTempView("clicks")
    log.refresh().append(pa.Table.from_pylist([new, new | {"opened_at": None}], schema=raw.schema))
    spark.sql("CALL lake.system.rewrite_data_files(table => 'lake.raw.impressions')")
    with pytest.raises(BatchRefusedError, match=r"is an? .*--on-change reingest"):
        ingest.run(spark, settings, FEED, TableRange("raw.impressions"))

    before, whole = published(settings, FEED), step.endswith("write")
    with monkeypatch.context() as patch:
        patch.setattr(step, die)
        with pytest.raises(Killed):
            ingest.run(spark, settings, FEED, SOURCE)
    assert (published(settings, FEED) == before) == (not whole), "not at all"
    assert same(settings, FEED, log) == whole, "or whole"
    again = ingest.run(spark, settings, FEED, SOURCE)
    assert again.skipped == whole, "the ledger is made good from the snapshot"
    assert same(settings, FEED, log)
    assert [row["reason"] for row in published(settings, FEED, "quarantine").to_pylist()] == ["null_key"]
    assert ingest.run(spark, settings, FEED, SOURCE).skipped


@pytest.mark.exhaustive
def test_what_is_gone_from_the_source_goes(spark: Any, settings: Settings) -> None:
    raw = raw_log(FEED, users=3)
    log = source(spark, settings, raw, by="days(opened_at)")
    ingest.run(spark, settings, FEED, SOURCE)
    first = raw.slice(0, 1).to_pylist()[0]
    spark.sql(f"DELETE FROM lake.raw.impressions WHERE CAST(opened_at AS DATE) = DATE '{first['opened_at'].date()}'")
    report = ingest.run(spark, settings, FEED, SOURCE)
    assert (report.raw_rows, report.requests, report.skipped) == (0, 0, False), "a range that only removed"
    assert report.replaced_requests > 0
    assert same(settings, FEED, log)
    assert ingest.run(spark, settings, FEED, SOURCE).skipped
    stays = log.refresh().scan().to_arrow()["rid"].to_pylist()[0]
    spark.sql(f"INSERT OVERWRITE lake.raw.impressions SELECT * FROM lake.raw.impressions WHERE rid <> {stays}")
    spark.sql("INSERT OVERWRITE lake.raw.impressions SELECT * FROM lake.raw.impressions LIMIT 0")
    ingest.run(spark, settings, FEED, SOURCE)
    assert same(settings, FEED, log)
    verified = verify.run(spark, settings, FEED, TableRange("raw.impressions"))
    assert (verified.ok, verified.raw_rows) == (True, len(log.refresh().scan().to_arrow()))


def test_only_what_changed_is_taken_and_what_came_otherwise_stays(spark: Any, settings: Settings, write: Any) -> None:
    raw = raw_log(VIDEO, users=4)
    log = source(spark, settings, raw)
    ingest.run(spark, settings, VIDEO, SOURCE)
    first = raw.slice(0, 1).to_pylist()[0]
    mine = [row for row in raw.to_pylist() if row["session"] == first["session"]]
    late = first["finished_at"] or int(first["t"].timestamp() * 1000)
    label = {"viewer": first["viewer"], "session": first["session"], "clip": first["clip"], "finished": 0.25}
    kinds = {name: raw.schema.field(name).type for name in (*label, "finished_at")}
    labels = pa.Table.from_pylist([label | {"finished_at": late + 600_000}], schema=pa.schema(kinds))
    assert run_labels(spark, settings, VIDEO, [write(labels, "labels", 1)]).updated == 1

    spark.sql(f"UPDATE lake.raw.impressions SET watch_seconds = 1 WHERE session = {first['session']}")
    report = ingest.run(spark, settings, VIDEO, SOURCE)
    assert (report.replaced_requests, report.requests, report.raw_rows) == (1, 1, len(mine))
    (request,) = [r for r in published(settings, VIDEO).to_pylist() if r["request_id"] == first["session"]]
    assert request["watch_seconds"] == [1.0] * len(mine)
    assert request["finished"][request["item_id"].index(first["clip"])] == 0.25, "a label of a file stands"

    other = pa.Table.from_pylist([first | {"clip": 999}], schema=raw.schema)
    ingest.run(spark, settings, VIDEO, [write(other, "other", 1)])
    spark.sql(f"DELETE FROM lake.raw.impressions WHERE session = {first['session']}")
    before = published(settings, VIDEO)
    with pytest.raises(BatchRefusedError, match=r"1 impressions that the source did not tell .*item_id 999"):
        ingest.run(spark, settings, VIDEO, SOURCE)
    assert published(settings, VIDEO) == before
    assert log.refresh().current_snapshot() is not None
