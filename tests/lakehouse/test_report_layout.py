"""Advice on the layout rests on a sample that was really rewritten; a year's cost is its formula."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.table import Table

from lakehouse.report.cost import yearly_costs
from lakehouse.report.trials import LayoutAdvice, best_encoding, bucket_advice, layout_advice
from lakehouse.settings import PriceSettings, Settings
from tests.reqlake.cli.conftest import Run, run  # noqa: F401 - a fixture
from tests.support.datasets import SPECS, raw_log, reference_requests, write_request_table

SPEC = SPECS["video"]
MB = 1 << 20


@pytest.fixture
def table(settings: Settings) -> Table:
    return write_request_table(settings, SPEC, reference_requests(raw_log(SPEC, users=40, history=30), SPEC))


def by_name(found: LayoutAdvice) -> dict[tuple[str, str], int]:
    return {(t.what, t.name): t.file_bytes for t in found.trials}


def test_the_sample_is_whole_and_each_alternative_is_what_it_says(table: Table) -> None:
    rows = sum(t.file.record_count for t in table.scan().plan_files())
    found = layout_advice(table, "video", 10 * MB, sample_bytes=MB << 10)
    assert (found.rows, found.sample_rows) == (rows, rows)
    paths = sorted((t.file for t in table.scan().plan_files()), key=lambda f: -f.file_size_in_bytes)
    sample = pa.concat_tables([pq.read_table(table.io.new_input(f.file_path).open()) for f in paths])
    sink = pa.BufferOutputStream()
    pages = {"data_page_size": 8 * MB, "dictionary_pagesize_limit": 1 << 10}
    pq.write_table(
        sample.combine_chunks().replace_schema_metadata(None), sink, compression="zstd", compression_level=9, **pages
    )
    assert by_name(found)["compression", "zstd level 9"] == pytest.approx(sink.getvalue().size, rel=0.02)
    assert {c.name for c in found.columns} >= {"user_id", "watched_clip", "look", "tags", "device"}
    for column in found.columns:
        names = [name for name, _, _ in column.encodings]
        assert names[:2] == ["plain", "dictionary"]
        assert column.best in names
    assert {r.subject for r in found.recommendations} == {
        "buckets",
        "row group",
        "compression",
        "dictionary",
        "encoding",
    }


def test_a_part_is_a_part_and_nothing_is_nothing(table: Table, settings: Settings) -> None:
    part = layout_advice(table, "video", 10 * MB, sample_bytes=20_000)
    assert 0 < part.sample_rows < part.rows
    empty = SPEC.model_copy(update={"name": "empty"})
    nothing = write_request_table(settings, empty, reference_requests(raw_log(SPEC, users=1), SPEC).slice(0, 0))
    assert layout_advice(nothing, "empty", 0).trials == ()


def test_the_smallest_encoding_wins_where_it_is_fast_and_worth_it() -> None:
    assert best_encoding([("plain", 100, 1.0), ("dictionary", 60, 1.1)]) == "dictionary"
    assert best_encoding([("plain", 100, 1.0), ("dictionary", 60, 2.0)]) == "plain"
    assert best_encoding([("plain", 100, 1.0), ("dictionary", 98, 1.0)]) == "plain"
    assert best_encoding([("plain", 100, 2.0), ("dictionary", 110, 1.0)]) == "dictionary"


def test_buckets_follow_from_decoded_bytes(table: Table) -> None:
    assert "--buckets 1" in bucket_advice(table, "video", 90 * MB).command
    assert bucket_advice(table, "video", 200 * MB).command == ""
    assert "--buckets 64" in bucket_advice(table, "video", 8192 * MB).command


def test_a_year_is_storage_and_reading() -> None:
    assert yearly_costs({"table": (10**9, 3600.0)}, PriceSettings()) is None
    prices = PriceSettings(per_gb_month=0.02, per_vcpu_hour=0.05, reads_per_year=10)
    found = yearly_costs({"table": (10**9, 3600.0)}, prices)
    assert found is not None
    (row,) = found.rows
    assert (row.storage, row.reading, row.together) == pytest.approx((0.24, 0.5, 0.74))
    assert "x 12" in found.formula


def test_the_command_writes_all_of_it(run: Run, table: Table, tmp_path: Path) -> None:  # noqa: F811
    assert table.current_snapshot() is not None
    pq.write_table(raw_log(SPEC, users=40, history=30), tmp_path / "raw.parquet")
    files = ("--json", tmp_path / "r.json", "--html", tmp_path / "r.html")
    ran = run("report", "video", tmp_path / "raw.parquet", *files, "--sample-mb", 1, "--price-per-gb-month", 0.023)
    assert ran.code == 0, ran.err
    for told in ("Layout advice", "A year at the given prices", "reqlake rebucket video --buckets 1"):
        assert told in ran.text
        assert told in (tmp_path / "r.html").read_text() or told.startswith("Layout")
    told = json.loads((tmp_path / "r.json").read_text())
    assert told["costs"]["rows"][0]["reading"] is None
    assert told["layout_advice"]["trials"][0]["now"] is True
    assert sum(p["files"] for p in told["partitions"]) == len(list(table.scan().plan_files()))
    assert max(p["files_of_a_user"] for p in told["partitions"]) == told["partitions"][0]["files_of_a_user"]
    assert "Files that may hold one user" in (tmp_path / "r.html").read_text()
    assert "Layout advice, from a sample" in (tmp_path / "r.html").read_text()
