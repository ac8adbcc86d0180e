"""Ranges of an Iceberg table's snapshots as batches: each appended row once, and nothing but appends."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.table import Table

from lakehouse.catalog import ensure_namespace, open_catalog
from lakehouse.settings import Settings
from spark_jobs import ingest, verify
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
    verified = verify.run(spark, settings, SPEC, TableRange("raw.impressions"))
    assert (verified.ok, verified.raw_rows) == (True, len(RAW) + 1)
    ledger = published(settings, SPEC, "ledger").sort_by("published_at")
    assert ledger["rows"].to_pylist() == [20, 10, len(RAW) - 29]
