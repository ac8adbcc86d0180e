"""Embedded SQL: what it refuses and how it says so, which snapshot it reads, and how little it opens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lakehouse import sql
from lakehouse.catalog import open_catalog
from lakehouse.errors import SqlError, TableMissingError
from lakehouse.settings import Settings, load_settings
from tests.lakehouse.merge_on_read import delete_positions
from tests.support.datasets import SPECS, raw_log, reference_requests, write_request_table

FEED = SPECS["feed"]


def feed_lake(home: Path, **shape: int) -> Settings:
    settings = load_settings(home=home / "lake")
    write_request_table(settings, FEED, reference_requests(raw_log(FEED, **shape), FEED))
    return settings


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return feed_lake(tmp_path_factory.mktemp("sql"))


REFUSED = {
    "approx_distinct(user_id)": r"the function approx_distinct\(\) in .*write count\(DISTINCT …\)",
    "soundex(country)": r"the function soundex\(\)",
    "regexp_like(country, 'd')": "the function regexp_like",
    "map(ARRAY[1], ARRAY[2])": "the function map",
    "CAST(ROW(1, 2) AS ROW(a integer, b integer))": r"the function struct\(\) in `ROW\(1, 2\)`",
    "1.5 / 2": r"division of decimals .*write 1e0 for 1\.0",
    "avg(1.5)": r"avg\(\) of a decimal",
    "CAST(score AS varchar)": r"a float as varchar: the engines write it differently",
    "CAST(country AS date)": r"a varchar as date",
    "CAST(request_ts AS timestamp)": r"rounds to 3 digits: write timestamp\(6\)",
    "request_ts - TIMESTAMP '2026-01-01 00:00:00 UTC'": r"the difference of times .*date_diff",
    "substr(country, 0)": "start at 1 or later",
    "item_id = ARRAY[1]": "comparison of arrays",
    "item_id || 5": r"an array and an element.*write ARRAY\[x\]",
    "try(1 / 0)": "TRY",
    "random()": "the function rand",
    "request_ts AT TIME ZONE 'UTC'": "ATTIMEZONE",
    "date_format(request_ts, '%M')": "a format other than",
    "CAST(country AS varchar(2))": r"varchar\(n\)",
    "count(DISTINCT user_id, request_id)": r"count\(DISTINCT a, b\)",
    "sum(score) OVER (ORDER BY user_id RANGE 3 PRECEDING)": "the window frame",
    "first_value(score) IGNORE NULLS OVER (ORDER BY user_id)": "IGNORENULLS",
}


@pytest.mark.parametrize("expression", REFUSED)
def test_what_is_not_carried_over_is_refused_by_name(lake: Settings, expression: str) -> None:
    with pytest.raises(SqlError, match=REFUSED[expression]):
        sql.query(lake, f"SELECT {expression} FROM feed_requests")


QUERIES_REFUSED = {
    "DELETE FROM feed_requests": "DELETE writes: queries only read",
    "INSERT INTO feed_requests SELECT * FROM feed_requests": "INSERT writes",
    "DROP TABLE feed_requests": "DROP writes",
    "CREATE TABLE x AS SELECT 1 AS a": "CREATE writes",
    "ALTER TABLE feed_requests EXECUTE optimize": "ALTER writes",
    "SELECT 1; SELECT 2": "give one query, got 2",
    "SELECT FROM WHERE": "this is not Trino SQL",
    "SHOW TABLES": "not a query|writes",
    "SELECT * FROM feed_requests TABLESAMPLE BERNOULLI (10)": "TABLESAMPLE in .*: filter on a key",
    "SELECT * FROM feed_requests FETCH FIRST 2 ROWS ONLY": "FETCH",
    "SELECT count(*) FROM feed_requests GROUP BY ROLLUP (country)": "ROLLUP",
    "WITH RECURSIVE t (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT * FROM t": "RECURSIVE",
    "SELECT * FROM feed_requests a NATURAL JOIN feed_requests b": "NATURAL JOIN",
    "SELECT x FROM read_parquet('/etc/passwd') AS t (x)": "read_parquet|TABLE",
    "SELECT x FROM feed_requests JOIN UNNEST(item_id) AS t (x) ON x > 3": "UNNEST in a join with a condition",
}  # fmt: skip


@pytest.mark.parametrize("text", QUERIES_REFUSED)
def test_writes_and_untested_clauses_are_refused(lake: Settings, text: str) -> None:
    with pytest.raises(SqlError, match=QUERIES_REFUSED[text]):
        sql.query(lake, text)


MISTAKES = {
    "SELECT countri FROM feed_requests": r"no column 'countri'\. Did you mean 'country'\? There are user_id, ",
    "SELECT r.countri FROM feed_requests r": r"no column 'countri'.* Did you mean 'country'\?",
    "SELECT x.country FROM feed_requests r": r"no (table|column) ",
    "SELECT * FROM feed_request": r"no table or view 'feed_request'\. Did you mean 'feed_requests'\?",
    "SELECT * FROM reqlak.feed_requests": r"no namespace 'reqlak'\. Did you mean 'reqlake'\?",
    "SELECT * FROM other.reqlake.feed_requests": r"no catalog 'other'.*lake",
    'SELECT * FROM "feed_requests$snapshot"': r"no metadata table .* Did you mean 'snapshots'\?",
    "SELECT item_id[9999] FROM feed_requests": "array subscript out of range: element_at",
    "SELECT item_id[0] FROM feed_requests": "array indices start at 1",
    "SELECT 1 / (user_id - user_id) FROM feed_requests": "[Dd]ivision by zero",
    "SELECT CAST(country AS bigint) FROM feed_requests": "cannot cast a string to a number",
    "SELECT DATE '2026-02-30'": "2026-02-30",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_named_with_what_was_meant(lake: Settings, text: str) -> None:
    with pytest.raises(SqlError, match=MISTAKES[text]):
        sql.query(lake, text)


def count(settings: Settings, **pin: Any) -> int:
    return sql.query(settings, "SELECT count(*) AS n FROM feed_requests", **pin)["n"][0].as_py()


def test_a_query_reads_the_snapshot_or_tag_that_it_is_given(tmp_path: Path) -> None:
    settings = feed_lake(tmp_path, users=6)
    table = open_catalog(settings).load_table("reqlake.feed_requests")
    first, last = table.snapshots()[0], table.snapshots()[-1]
    table.manage_snapshots().create_tag(first.snapshot_id, "train-1").commit()
    assert count(settings, tag="train-1") == count(settings, snapshot=first.snapshot_id) < count(settings)
    assert count(settings, snapshot=last.snapshot_id) == count(settings) == 18
    with pytest.raises(TableMissingError, match=r"no tag or branch 'train-2'\. Did you mean 'train-1'\?"):
        count(settings, tag="train-2")
    with pytest.raises(TableMissingError, match=r"no snapshot 7 in reqlake\.feed_requests: it is gone"):
        count(settings, snapshot=7)
    with pytest.raises(TableMissingError, match="has no snapshot 7: it is gone"):
        sql.query(settings, "SELECT 1 FROM feed_requests FOR VERSION AS OF 7")
    with pytest.raises(TableMissingError, match="no snapshot as old as 1999"):
        sql.query(settings, "SELECT 1 FROM feed_requests FOR TIMESTAMP AS OF TIMESTAMP '1999-01-01 00:00:00 UTC'")
    with pytest.raises(SqlError, match="a snapshot or a tag, not both"):
        count(settings, snapshot=7, tag="x")


def test_an_empty_table_has_no_rows_and_its_types(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path / "lake")
    nothing = reference_requests(raw_log(FEED, users=1), FEED).slice(0, 0)
    write_request_table(settings, FEED, nothing)
    found = sql.query(settings, "SELECT item_id, click, request_ts FROM feed_impressions")
    assert found.num_rows == 0
    assert found.schema.types == [pa.int64(), pa.float32(), pa.timestamp("us", "UTC")]


def test_a_catalog_without_tables_says_how_to_get_one(settings: Settings) -> None:
    with pytest.raises(SqlError, match="holds no table yet: `reqlake ingest`"):
        sql.query(settings, "SELECT 1 FROM feed_requests")


PRUNED = [
    "SELECT click FROM feed_impressions WHERE user_id = 3",
    "SELECT x.click FROM (SELECT * FROM feed_impressions_labels) AS x WHERE 3 = x.user_id",
    "WITH a AS (SELECT user_id, click FROM feed_impressions) SELECT sum(click) FROM a WHERE user_id IN (3)",
    "SELECT * FROM feed_latest_requests WHERE user_id = 3",
    "SELECT * FROM feed_history_events WHERE user_id BETWEEN 3 AND 3",
]


@pytest.mark.parametrize("text", PRUNED)
def test_a_filter_on_the_user_opens_that_users_files_only(lake: Settings, text: str) -> None:
    (scan,) = sql.explain(lake, text).scans
    assert 0 < scan.files < scan.files_in_all
    everything = sql.query(lake, text.partition(" WHERE ")[0].replace("sum(click)", "user_id, click"))
    assert everything.num_rows > sql.query(lake, text).num_rows > 0


def test_a_filter_on_the_time_opens_that_times_files_only(lake: Settings) -> None:
    text = "SELECT count(*) FROM feed_impressions_core WHERE request_ts >= TIMESTAMP '2026-03-02 00:00:00 UTC'"
    (scan,) = sql.explain(lake, text).scans
    assert 0 < scan.files < scan.files_in_all


NOT_PRUNED = [
    "SELECT * FROM (SELECT user_id, rank() OVER (ORDER BY request_ts) AS n FROM feed_requests) AS x WHERE user_id = 3",
    "SELECT * FROM (SELECT * FROM feed_requests ORDER BY request_ts LIMIT 3) AS x WHERE user_id = 3",
    "SELECT * FROM (SELECT max(user_id) AS user_id FROM feed_requests) AS x WHERE user_id = 3",
    "SELECT * FROM feed_requests WHERE user_id = 3 OR country = 'de'",
    "SELECT * FROM feed_requests WHERE user_id = -score",
    "WITH a AS (SELECT * FROM feed_requests) SELECT 1 FROM a JOIN a AS b ON a.user_id > b.user_id WHERE b.user_id = 3",
]


@pytest.mark.parametrize("text", NOT_PRUNED)
def test_a_filter_that_would_change_the_rows_stays_where_it_is(lake: Settings, text: str) -> None:
    scans = sql.explain(lake, text).scans
    assert any(scan.files == scan.files_in_all for scan in scans)


def test_only_the_columns_that_are_asked_for_are_read(lake: Settings) -> None:
    plan = sql.explain(lake, "SELECT avg(click) FROM feed_impressions WHERE country = 'de'").plan
    read = plan[plan.index("Parquet") :].replace("│", " ")
    assert "click" in read
    assert "country" in read
    assert not [name for name in ("history_item_id", "price", "position", "item_id", "user_id") if name in read]


def test_deleted_rows_are_gone_and_equality_deletes_are_refused(tmp_path: Path) -> None:
    settings = feed_lake(tmp_path, users=6)
    table = open_catalog(settings).load_table("reqlake.feed_requests")
    task = max(table.scan().plan_files(), key=lambda t: t.file.record_count)
    delete_positions(table, {task.file.file_path.replace("file://", "file:"): [0]})  # Spark writes file:/x
    assert count(settings) == 17
    (scan,) = sql.explain(settings, "SELECT user_id FROM feed_requests").scans
    assert scan.deletes > 0
    delete_positions(table, {task.file.file_path: [1]}, equality=True)
    with pytest.raises((SqlError), match="equality deletes"):
        count(settings)


def test_any_table_of_the_catalog_can_be_joined(tmp_path: Path) -> None:
    settings = feed_lake(tmp_path, users=3)
    scores = pa.table({"user_id": pa.array([1, 2], pa.int64()), "score_click": pa.array([0.25, 0.5], pa.float32())})
    catalog = open_catalog(settings)
    catalog.create_table("reqlake.feed_scores", scores.schema).append(scores)
    joined = "feed_scores s JOIN feed_requests r USING (user_id)"
    text = f"SELECT s.score_click, count(*) AS n FROM {joined} GROUP BY 1 ORDER BY 1"
    assert sql.query(settings, text).to_pylist() == [{"score_click": 0.25, "n": 3}, {"score_click": 0.5, "n": 3}]
    assert "reqlake.feed_scores" in sql.names(settings)


def test_a_name_in_two_namespaces_has_to_be_written_in_full(tmp_path: Path) -> None:
    settings = feed_lake(tmp_path, users=2)
    catalog = open_catalog(settings)
    catalog.create_namespace("other")
    catalog.create_table("other.feed_requests", pa.schema({"a": pa.int64()}))
    with pytest.raises(SqlError, match=r"ambiguous: other\.feed_requests and reqlake\.feed_requests"):
        sql.query(settings, "SELECT 1 FROM feed_requests")
    assert sql.query(settings, "SELECT user_id FROM reqlake.feed_requests").num_rows == 6


def test_columns_that_sql_cannot_carry_are_hidden_and_refused_by_name(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path / "lake")
    catalog = open_catalog(settings)
    catalog.create_namespace("reqlake")
    rows = pa.table({"a": [1], "m": pa.array([{"k": 1}], pa.struct({"k": pa.int64()}))})
    catalog.create_table("reqlake.odd", rows.schema).append(rows)
    assert sql.query(settings, "SELECT a FROM odd").to_pylist() == [{"a": 1}]
    with pytest.raises(SqlError, match=r"the column m of reqlake\.odd, a struct"):
        sql.query(settings, "SELECT * FROM odd")


def test_a_large_result_streams(lake: Settings) -> None:
    with sql.stream(lake, "SELECT a.user_id FROM feed_requests a, feed_requests b", batch_rows=500) as reader:
        sizes = [batch.num_rows for batch in reader]
    assert sum(sizes) == 60 * 60
    assert len(sizes) > 1


def test_paths_with_odd_characters_are_read(tmp_path: Path) -> None:
    home = tmp_path / "a [b] * 'c' %20 ü"
    home.mkdir()
    settings = feed_lake(home, users=2)
    assert count(settings) == 6
