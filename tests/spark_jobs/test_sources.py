"""Ranges of an Iceberg table's snapshots as batches: each appended row once, and nothing but appends."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.table import Table

from lakehouse.catalog import ensure_namespace, open_catalog
from lakehouse.settings import Settings
from spark_jobs import ingest
from spark_jobs.errors import BatchRefusedError
from spark_jobs.sources import TableRange
from tests.spark_jobs.conftest import published, rows_of
from tests.support.datasets import SPECS, raw_log, reference_requests

pytestmark = pytest.mark.spark
SPEC = SPECS["feed"]
RAW = raw_log(SPEC, users=4)


@pytest.fixture
def log(settings: Settings) -> Table:
    """`raw.impressions` in the lake's own catalog, with its first rows."""
    catalog = open_catalog(settings)
    ensure_namespace(catalog, "raw", settings)
    table = catalog.create_table("raw.impressions", RAW.schema)
    table.append(RAW.slice(0, 20))
    return table


def newest(table: Table) -> int:
    snapshot = table.refresh().current_snapshot()
    assert snapshot is not None
    return snapshot.snapshot_id


def test_each_range_goes_on_after_the_last(
    spark: Any, settings: Settings, log: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ingest.run(spark, settings, SPEC, TableRange("raw.impressions"))
    assert first.raw_rows == 20
    assert ingest.run(spark, settings, SPEC, TableRange("raw.impressions")).skipped
    log.append(RAW.slice(20, 5))
    log.append(RAW.slice(25, 5))
    middle = newest(log)
    spark.sql(
        "CALL lake.system.rewrite_data_files(table => 'lake.raw.impressions', options => map('rewrite-all', 'true'))"
    )
    assert newest(log) != middle, "a compaction changes no row"
    log.append(RAW.slice(30))

    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:  # published, but not in the ledger
        patch.setattr("lakehouse.ledger.Ledger.write", die)
        with pytest.raises(KeyboardInterrupt):
            ingest.run(spark, settings, SPEC, TableRange("raw.impressions", to=middle), batch_id="monday")
    again = ingest.run(spark, settings, SPEC, TableRange("raw.impressions"), batch_id="monday")
    assert (again.skipped, again.known_files) == (True, (f"raw.impressions@{first_of(log)}..{middle}",))
    last = ingest.run(spark, settings, SPEC, TableRange("raw.impressions"))
    assert last.raw_rows == len(RAW) - 30
    assert rows_of(published(settings, SPEC)) == rows_of(reference_requests(RAW, SPEC))
    assert [row["rows"] for row in published(settings, SPEC, "ledger").sort_by("published_at").to_pylist()] == [
        20,
        10,
        len(RAW) - 30,
    ]


def first_of(table: Table) -> int:
    return table.metadata.snapshots[0].snapshot_id


def test_what_is_no_append_is_refused_by_name(spark: Any, settings: Settings, log: Table) -> None:
    ingest.run(spark, settings, SPEC, TableRange("raw.impressions"))
    spark.sql("DELETE FROM lake.raw.impressions WHERE uid = 1")
    deleted = newest(log)
    log.append(RAW.slice(20))
    with pytest.raises(BatchRefusedError, match=rf"snapshot {deleted} of raw.impressions is an? (delete|overwrite)"):
        ingest.run(spark, settings, SPEC, TableRange("raw.impressions"))
    report = ingest.run(spark, settings, SPEC, TableRange("raw.impressions", after=deleted))
    assert report.raw_rows == len(RAW) - 20
    assert rows_of(published(settings, SPEC)) == rows_of(reference_requests(RAW, SPEC))
    whole = ingest.run(spark, settings, SPEC, TableRange("raw.impressions", after=0))
    assert whole.duplicate_rows == whole.raw_rows > 0


def test_ranges_that_cannot_be_told_are_refused(spark: Any, settings: Settings, log: Table) -> None:
    start = newest(log)
    ingest.run(spark, settings, SPEC, TableRange("raw.impressions"), batch_id="first")
    log.append(RAW.slice(20, 5))
    second = newest(log)
    log.append(RAW.slice(25, 5))
    ingest.run(spark, settings, SPEC, TableRange("raw.impressions", to=second))
    for given, says in [
        (TableRange("raw.impressions", after=start), f"1 of the 2 snapshots .*--from-snapshot {second}"),
        (TableRange("raw.impressions", after=7), "snapshot 7 of raw.impressions is none of those before"),
        (TableRange("raw.impressions", to=7), "has no snapshot 7"),
        (
            TableRange("raw.impressions", to=start, after=second),
            f"snapshot {second} .* is none of those before {start}",
        ),
    ]:
        with pytest.raises(BatchRefusedError, match=says):
            ingest.run(spark, settings, SPEC, given)
    with pytest.raises(BatchRefusedError, match="batch 'first' is published with other files"):
        ingest.run(spark, settings, SPEC, TableRange("raw.impressions", after=second), batch_id="first")
    spark.sql(
        f"CALL lake.system.expire_snapshots(table => 'lake.raw.impressions', snapshot_ids => array({start}, {second}))"
    )
    with pytest.raises(BatchRefusedError, match="they expired, or the table was rolled"):
        ingest.run(spark, settings, SPEC, TableRange("raw.impressions"))


def test_rows_of_a_table_are_quarantined_with_their_file(spark: Any, settings: Settings, log: Table) -> None:
    rows = RAW.to_pylist()
    rows[21]["click"] = 5.0
    log.append(pa.Table.from_pylist(rows[20:], schema=RAW.schema))
    report = ingest.run(spark, settings, SPEC, TableRange("raw.impressions"))
    assert report.quarantined == {"label_out_of_range": 1}
    (held,) = published(settings, SPEC, "quarantine").to_pylist()
    assert held["file"].endswith(".parquet")
    assert held["row"] == 1
