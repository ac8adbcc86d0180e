"""`--stream`: what Structured Streaming finds is ingested by the batch job, exactly once, whatever dies in between."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakehouse.catalog import ensure_namespace, open_catalog
from lakehouse.errors import RawDataError
from lakehouse.settings import Settings
from spark_jobs.errors import BatchRefusedError
from spark_jobs.report import IngestReport
from spark_jobs.sources import TableRange
from spark_jobs.stream import Stream
from tests.spark_jobs.conftest import published, rows_of
from tests.support.datasets import SPECS, raw_log, reference_requests

pytestmark = pytest.mark.spark
SPEC = SPECS["feed"]
RAW = raw_log(SPEC, users=4)


def put(folder: Path, name: str, table: pa.Table) -> Path:
    """A file that is there at once, as a writer that is done leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, folder / f".{name}")
    return (folder / f".{name}").rename(folder / name)


def requests(settings: Settings) -> list[dict[str, Any]]:
    return rows_of(published(settings, SPEC))


def once(spark: Any, settings: Settings, source: Any) -> list[IngestReport]:
    reports: list[IngestReport] = []
    Stream(spark, settings, SPEC, source, reports.append).run(once=True)
    return reports


def test_a_folder_is_followed_over_ctrl_c_and_death(
    spark: Any, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, pattern = tmp_path / "the log", f"{tmp_path}/the log/**/*.parquet"
    put(log, "a b.parquet", RAW.slice(0, 10))
    put(log / "deep" / "day=2", "b.parquet", RAW.slice(10, 10))
    put(log, "other.txt", RAW)
    reports, said = [], []

    def progress(step: str) -> None:
        """Ctrl-C while the first batch is being written: it is published all the same."""
        said.append(step)
        if step.startswith("Writing") and not any(before.startswith("Writing") for before in said[:-1]):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        Stream(spark, settings, SPEC, [pattern], reports.append, progress, every=0.1).run()
    assert any(step.startswith("Stopping when the batch") for step in said)
    assert [report.raw_rows for report in reports] == [20]

    whole = put(tmp_path, "c.parquet", RAW.slice(20, 10)).read_bytes()
    (log / "c.parquet").write_bytes(whole[:-20])  # still being written
    put(log, "d.parquet.tmp", RAW.slice(0, 1))
    put(log, "d.parquet", RAW.slice(30, 10))

    def die(*_: Any, **__: Any) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:  # found, and not published
        patch.setattr("spark_jobs.ingest.publish", die)
        with pytest.raises(RuntimeError, match="killed"):
            once(spark, settings, [pattern])
    after = once(spark, settings, [pattern])
    assert [report.raw_rows for report in after if not report.skipped] == [10]
    (log / "c.parquet").write_bytes(whole)  # Spark has spoken of it, and will not again
    put(log, "e.parquet", RAW.slice(40))
    (last,) = once(spark, settings, [pattern])
    assert last.raw_rows == len(RAW) - 30
    assert requests(settings) == rows_of(reference_requests(RAW, SPEC))


def test_a_table_is_followed_by_its_snapshots(spark: Any, settings: Settings) -> None:
    catalog = open_catalog(settings)
    ensure_namespace(catalog, "raw", settings)
    table = catalog.create_table("raw.impressions", RAW.schema)
    table.append(RAW.slice(0, 20))
    table.append(RAW.slice(20))
    source = TableRange("raw.impressions")
    reports = once(spark, settings, source)
    assert [report.raw_rows for report in reports if not report.skipped] == [len(RAW)]
    assert requests(settings) == rows_of(reference_requests(RAW, SPEC))
    spark.sql("DELETE FROM lake.raw.impressions WHERE uid = 1")
    table.refresh().append(RAW.slice(0, 1))
    with pytest.raises(BatchRefusedError, match=r"snapshot \d+ of raw.impressions is an? (delete|overwrite)"):
        once(spark, settings, source)


def test_what_cannot_be_streamed_is_refused(spark: Any, settings: Settings, tmp_path: Path) -> None:
    file = put(tmp_path, "a.parquet", RAW)
    for given in ([str(file)], [str(tmp_path), str(tmp_path)]):
        with pytest.raises(RawDataError, match="a stream is given one folder"):
            Stream(spark, settings, SPEC, given, lambda _: None).run(once=True)
    bad = RAW.set_column(RAW.schema.get_field_index("click"), "click", pa.array([7.0] * len(RAW), pa.float32()))
    put(tmp_path / "log", "bad.parquet", bad)
    strict = settings.model_copy(update={"ingest": settings.ingest.model_copy(update={"max_bad_share": 0.1})})
    with pytest.raises(BatchRefusedError, match="would go to quarantine"):
        once(spark, strict, [str(tmp_path / "log")])
