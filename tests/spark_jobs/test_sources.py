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
    start = newest(log)
    assert ingest.run(spark, settings, SPEC, TableRange("raw.impressions")).skipped
    log.append(RAW.slice(20, 5))
    log.append(RAW.slice(25, 5))
    middle = newest(log)
    spark.sql(
        "CALL lake.system.rewrite_data_files(table => 'lake.raw.impressions', options => map('rewrite-all', 'true'))"
    )
    assert newest(log) != middle, "a compaction, which changes no row"
    rest = RAW.slice(30).to_pylist()
    log.append(pa.Table.from_pylist([*rest, rest[0] | {"iid": 999, "click": 5.0}], schema=RAW.schema))

    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:  # published, but not in the ledger
        patch.setattr("lakehouse.ledger.Ledger.write", die)
        with pytest.raises(KeyboardInterrupt):
            ingest.run(spark, settings, SPEC, TableRange("raw.impressions", to=middle), batch_id="monday")
    again = ingest.run(spark, settings, SPEC, TableRange("raw.impressions"), batch_id="monday")
    assert (again.skipped, again.known_files) == (True, (f"raw.impressions@{start}..{middle}",))
    last = ingest.run(spark, settings, SPEC, TableRange("raw.impressions"))
    assert (last.raw_rows, last.quarantined) == (len(RAW) - 29, {"label_out_of_range": 1})
    (held,) = published(settings, SPEC, "quarantine").to_pylist()
    assert (held["file"].rsplit(".", 1)[1], held["row"]) == ("parquet", len(RAW) - 30)
    assert rows_of(published(settings, SPEC)) == rows_of(reference_requests(RAW, SPEC))
    ledger = published(settings, SPEC, "ledger").sort_by("published_at")
    assert ledger["rows"].to_pylist() == [20, 10, len(RAW) - 29]


def test_what_is_no_append_or_cannot_be_told_is_refused_by_name(spark: Any, settings: Settings, log: Table) -> None:
    start = newest(log)
    ingest.run(spark, settings, SPEC, TableRange("raw.impressions"), batch_id="first")
    log.append(RAW.slice(20, 5))
    second = newest(log)
    spark.sql("DELETE FROM lake.raw.impressions WHERE uid = 1")
    deleted = newest(log)
    log.refresh().append(RAW.slice(25))
    last = newest(log)
    for given, says in [
        (TableRange("raw.impressions"), f"snapshot {deleted} of raw.impressions is an? (delete|overwrite)"),
        (TableRange("raw.impressions", after=7), f"snapshot 7 of raw.impressions is none of those before {last}"),
        (TableRange("raw.impressions", to=7), "has no snapshot 7"),
        (TableRange("raw.impressions", to=start, after=last), f"snapshot {last} .* is none of those before {start}"),
    ]:
        with pytest.raises(BatchRefusedError, match=says):
            ingest.run(spark, settings, SPEC, given)
    with pytest.raises(BatchRefusedError, match="batch 'first' is published with other files"):
        ingest.run(spark, settings, SPEC, TableRange("raw.impressions", after=deleted), batch_id="first")
    assert ingest.run(spark, settings, SPEC, TableRange("raw.impressions", after=deleted)).raw_rows == len(RAW) - 25
    with pytest.raises(BatchRefusedError, match=rf"1 of the 3 snapshots .*--from-snapshot {last}"):
        ingest.run(spark, settings, SPEC, TableRange("raw.impressions", after=start))
    assert ingest.run(spark, settings, SPEC, TableRange("raw.impressions", after=deleted, to=last)).skipped
    expired = f"array({start}, {second}, {deleted}, {last})"
    log.append(RAW.slice(20, 5))
    spark.sql(f"CALL lake.system.expire_snapshots(table => 'lake.raw.impressions', snapshot_ids => {expired})")
    with pytest.raises(BatchRefusedError, match="they expired, or the table was rolled"):
        ingest.run(spark, settings, SPEC, TableRange("raw.impressions"))
    whole = ingest.run(spark, settings, SPEC, TableRange("raw.impressions", after=0))
    assert (whole.accepted_rows, whole.duplicate_rows) == (5, whole.raw_rows - 5)
    assert rows_of(published(settings, SPEC)) == rows_of(reference_requests(RAW, SPEC))
