"""Three datasets of different shapes through the whole job, against a plain deduplication, read by PyIceberg alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from lakehouse import sql
from lakehouse.catalog import local_path, open_catalog
from lakehouse.schema import arrow_schema
from lakehouse.settings import Settings
from spark_jobs.ingest import run
from spark_jobs.session import build_session
from tests.feature_reader.plain import assert_read_as_stored
from tests.spark_jobs.conftest import embedded, published, rows_of
from tests.support.datasets import SPECS, raw_log, reference_requests

pytestmark = pytest.mark.spark


@pytest.mark.parametrize("name", SPECS)
def test_table_equals_the_plain_deduplication(name: str, spark: Any, settings: Settings, write: Any) -> None:
    spec = SPECS[name]
    raw = raw_log(spec, users=12)
    report = run(spark, settings, spec, [write(raw)])
    table = published(settings, spec)
    assert rows_of(table) == rows_of(reference_requests(raw, spec))
    assert table.schema.names == arrow_schema(spec).names
    assert report.raw_rows == report.accepted_rows == len(raw)
    assert (report.requests, report.duplicate_rows, report.quarantined) == (len(table), 0, {})
    assert_read_as_stored(open_catalog(settings).load_table(spec.table()), spec, batch_requests=7, window=3)


@pytest.mark.usefixtures("jvm")
def test_a_space_in_home_and_raw_paths_stays_a_space(tmp_path: Path) -> None:
    spec = SPECS["feed"]
    spaced = embedded(tmp_path / "my 20%20 lake")
    raw = raw_log(spec, users=3)
    (tmp_path / "raw log").mkdir()
    pq.write_table(raw, tmp_path / "raw log" / "part one.parquet")
    run(build_session(spaced), spaced, spec, [tmp_path / "raw log"])
    assert rows_of(published(spaced, spec)) == rows_of(reference_requests(raw, spec))
    found = sql.query(spaced, f"SELECT count(*) AS n FROM {spec.name}_impressions")
    assert found.to_pylist() == [{"n": len(raw)}]
    assert not list(tmp_path.rglob("*my%20*"))


def test_files_are_sorted_by_user_and_request(spark: Any, settings: Settings, write: Any) -> None:
    spec = SPECS["feed"]
    run(spark, settings, spec, [write(raw_log(spec))])
    table = open_catalog(settings).load_table(spec.table())
    files = [local_path(task.file.file_path) for task in table.scan().plan_files()]
    assert len(files) > 1
    assert len(files) == len(table.inspect.partitions()), "one file per partition"
    for path in files:
        keys = pq.read_table(path, columns=["user_id", "request_id", "request_hash"]).to_pylist()
        assert [tuple(k.values()) for k in keys] == sorted(tuple(k.values()) for k in keys)
        codecs = pq.ParquetFile(path).metadata.row_group(0).column(0).compression
        assert codecs == "ZSTD"


def test_table_equals_a_pandas_deduplication(spark: Any, settings: Settings, write: Any) -> None:
    spec = SPECS["feed"]
    raw = raw_log(spec, users=10, seed=3)
    run(spark, settings, spec, [write(raw)])
    frame = raw.to_pandas().sort_values(["shown_at", "iid"], kind="stable")
    wanted = frame.groupby(["uid", "rid"]).agg(iid=("iid", list), click=("click", list), ts=("opened_at", "min"))
    got = published(settings, spec).to_pandas().sort_values(["user_id", "request_id"])
    assert list(zip(got["user_id"], got["request_id"], strict=True)) == list(wanted.index)
    assert [list(x) for x in got["item_id"]] == list(wanted["iid"])
    assert [list(x) for x in got["click"]] == list(wanted["click"])
    pd.testing.assert_series_equal(
        got["request_ts"].reset_index(drop=True), wanted["ts"].reset_index(drop=True), check_names=False
    )


@pytest.mark.parametrize("limits", [(0, 10), (0, 0)], ids=["winners broadcast", "winners shuffled"])
def test_large_batches_give_the_same_table(
    limits: tuple[int, int], spark: Any, settings: Settings, write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The joins that large batches take, forced on a small one."""
    monkeypatch.setattr("spark_jobs.wide.BROADCAST_GROUPS", limits[0])
    monkeypatch.setattr("spark_jobs.wide.BROADCAST_WINNERS", limits[1] * 1000)
    spec = SPECS["shop"]
    raw = raw_log(spec, users=8)
    run(spark, settings, spec, [write(raw)])
    assert rows_of(published(settings, spec)) == rows_of(reference_requests(raw, spec))


def test_unchecked_ingest_gives_the_same_requests(spark: Any, settings: Settings, write: Any) -> None:
    spec = SPECS["video"]
    raw = raw_log(spec, users=8)
    loose = settings.model_copy(update={"ingest": settings.ingest.model_copy(update={"check_conflicts": False})})
    run(spark, loose, spec, [write(raw)])
    table = published(settings, spec)
    assert rows_of(table) == rows_of(reference_requests(raw, spec))
    assert 0 not in table["request_hash"].to_pylist()
