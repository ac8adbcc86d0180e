"""`reqlake query` and `reqlake batches`, on a lake without Spark."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from datetime import datetime
from io import StringIO
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from reqlake import sql
from reqlake.show.rows import show_rows
from tests.reqlake.cli.conftest import Run

lake = pytest.mark.usefixtures("lake")


@lake
def test_query_prints_rows(run: Run) -> None:
    said = run("query", "SELECT count(*) AS n, avg(click) AS clicked FROM feed_impressions")
    assert said.code == 0
    head, row = said.out.splitlines()[:2]
    assert head.split() == ["n", "clicked"]
    assert int(row.split()[0]) > 60


@lake
def test_query_without_sql_lists_what_can_be_read(run: Run) -> None:
    said = run("query")
    assert "reqlake.feed_impressions" in said.out
    assert "reqlake.shop_requests" in said.out


def test_query_of_an_empty_lake_says_how_to_fill_it(run: Run) -> None:
    assert "reqlake ingest" in run("query").out


@lake
def test_query_says_how_many_rows_it_left_out(run: Run) -> None:
    said = run("query", "SELECT user_id, request_id FROM feed_requests", "--limit", "5")
    assert "5 of 60 rows" in said.out


def test_a_large_result_is_cut_with_a_notice_and_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reqlake.show.rows.COUNTED", 25)
    read = []

    def batches() -> Iterator[pa.RecordBatch]:
        for start in range(0, 1000, 10):
            read.append(start)
            yield pa.record_batch({"n": list(range(start, start + 10))})

    console = Console(width=90, file=StringIO())
    show_rows(console, pa.RecordBatchReader.from_batches(pa.schema({"n": pa.int64()}), batches()), limit=12)
    assert console.file.getvalue().split()[:13] == ["n", *map(str, range(12))]
    assert "12 of more than 25 rows (--limit shows more" in console.file.getvalue()
    assert read == [0, 10, 20]


@lake
def test_query_prints_every_row_for_a_pipe(run: Run) -> None:
    text = "SELECT user_id, history_item_id, request_ts, nan() AS odd FROM feed_requests ORDER BY request_id"
    rows = json.loads(run("query", text, "--format", "json").out)
    wanted = sql(text).to_pylist()
    assert [(r["user_id"], r["history_item_id"]) for r in rows] == [
        (r["user_id"], r["history_item_id"]) for r in wanted
    ]
    assert [datetime.fromisoformat(r["request_ts"]) for r in rows] == [r["request_ts"] for r in wanted]
    assert {r["odd"] for r in rows} == {"NaN"}
    lines = list(csv.DictReader(run("query", text, "--format", "csv").out.splitlines()))
    assert [json.loads(line["history_item_id"]) for line in lines] == [r["history_item_id"] for r in wanted]
    assert run("query", f"SELECT * FROM ({text}) AS x WHERE user_id < 0", "--format", "json").out == "[]\n"


@pytest.mark.parametrize(
    ("file", "read"),
    [
        ("rows.parquet", pq.read_table),
        ("rows.csv", pacsv.read_csv),
        ("rows.json", lambda file: pa.Table.from_pylist(json.loads(file.read_text()))),
    ],
)
@lake
def test_query_writes_every_row_to_a_file(run: Run, tmp_path: Path, file: str, read: object) -> None:
    said = run("query", "SELECT user_id, hour FROM feed_requests", "--out-file", file)
    assert said.code == 0
    assert read(tmp_path / file).num_rows == 60  # type: ignore[operator]
    assert "60 rows" in said.err


@lake
def test_query_refuses_another_ending_and_leaves_no_file(run: Run, tmp_path: Path) -> None:
    said = run("query", "SELECT user_id FROM feed_requests", "--out-file", "rows.xls")
    assert said.code == 1
    assert ".parquet, .csv or .json" in said.err
    assert list(tmp_path.glob("*rows*")) == []


@lake
def test_query_explains(run: Run) -> None:
    said = run("query", "--explain", "SELECT count(*) FROM feed_requests WHERE hour = 3")
    assert "ScanPlan(table='reqlake.feed_requests'" in said.out
    assert "hour" in said.out


@lake
def test_query_names_an_unknown_column(run: Run) -> None:
    said = run("query", "SELECT nope FROM feed_requests")
    assert said.code == 1
    assert "no column 'nope'" in said.err


@lake
@pytest.mark.parametrize("what", ["apply", "diff", "drop"])
def test_views_without_a_trino_says_why_there_is_nothing_to_make(run: Run, what: str) -> None:
    said = run("views", what, "feed")
    assert said.code == 1
    assert "embedded SQL needs no views made: it knows the spec's. Set REQLAKE_TRINO__URI" in " ".join(said.err.split())


@lake
def test_batches_plan_counts_what_will_be_read(run: Run) -> None:
    said = run("batches", "plan", "feed")
    assert "60 requests in" in said.out
    filtered = run("batches", "plan", "feed", "--where", "hour < 12")
    assert 0 < int(filtered.text.split(" requests in")[0].split()[-1]) < 60


@lake
def test_batches_preview_shows_each_column_once_per_request(run: Run) -> None:
    said = run("batches", "preview", "feed", "--requests", "2")
    assert "R = 2 requests" in said.out
    assert "jagged" in said.out
    assert "history_item_id" in said.out


@lake
def test_batches_preview_masks_sensitive_columns(run: Run) -> None:
    said = run("batches", "preview", "shop", "--columns", "user_id", "loyal")
    line = next(line for line in said.out.splitlines() if line.startswith("user_id "))
    assert "***" in line


@lake
def test_batches_trace_names_the_row_of_each_request(run: Run) -> None:
    said = run("batches", "trace", "feed", "1", "--batch-requests", "5")
    rows = [line.split() for line in said.out.splitlines()[1:]]
    assert len(rows) == 5
    assert all(name.endswith(".parquet") and group.isdigit() and row.isdigit() for name, group, row in rows)
    beyond = run("batches", "trace", "feed", "99")
    assert (beyond.code, beyond.err[:14]) == (1, "error: step 99")


@lake
def test_batches_replay_reads_what_dump_saved(run: Run, tmp_path: Path) -> None:
    said = run("batches", "dump", "shop", "1", "step.arrow", "--batch-requests", "5")
    assert "step.arrow: step 1 of epoch 0, 5 requests" in said.out
    assert (
        run("batches", "replay", "step.arrow").text
        == "step 1 of reqlake.shop_requests is bit by bit what step.arrow holds"
    )
    for file in (tmp_path / "lake").rglob("data/**/*.parquet"):
        file.unlink()
    again = run("batches", "replay", "step.arrow")
    assert again.code == 1
    assert "is not there" in again.out


@lake
def test_requests_named_in_a_file_are_skipped(run: Run, tmp_path: Path) -> None:
    ids = sql("SELECT request_id FROM feed_requests ORDER BY request_id").to_pydict()["request_id"][:3]
    (tmp_path / "gone.csv").write_text("request_id\n" + "".join(f"{i}\n" for i in ids))
    said = run("batches", "plan", "feed", "--skip-requests", "gone.csv")
    assert "57 requests in" in said.out
    assert "3 left out" in said.out


@lake
def test_batches_bench_names_the_fastest_setting(run: Run) -> None:
    said = run("batches", "bench", "feed", "--seconds", "0.01")
    assert "bound by" in said.out
    assert "fastest: threads=" in said.out


@lake
def test_batches_of_a_bad_filter_is_one_clear_error(run: Run) -> None:
    said = run("batches", "plan", "feed", "--where", "hour <<< 3")
    assert said.code == 1
    assert "Traceback" not in said.err
    assert said.err.startswith("error: ")
