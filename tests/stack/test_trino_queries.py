"""`reqlake query` on the real Trino: the battery on both engines over one lake, pins, views, errors."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.table import Table

from lakehouse import sql
from lakehouse.errors import ServerError, SqlError, TableMissingError
from lakehouse.schema import arrow_schema
from lakehouse.settings import Settings
from lakehouse.sql import view_server
from lakehouse.sql.server_types import arrow_type
from lakehouse.views import views
from tests.lakehouse.sql_battery import CASES, Case, write_battery
from tests.lakehouse.test_sql_battery import rows_of
from tests.support.datasets import SPECS, raw_log, reference_requests, write_request_table

pytestmark = pytest.mark.integration
# Where one engine has a narrower type for a value that is the same: a null literal, an integer state, a correlation.
OTHER_TYPES = {"concat with null is null", "reduce", "spread"}


def embedded(lake: Settings) -> Settings:
    """The same lake on S3, queried in this process."""
    return lake.model_copy(update={"trino": lake.trino.model_copy(update={"uri": None})})


@pytest.fixture(scope="module")
def battery(lake: Settings) -> Settings:
    write_battery(lake)
    return lake


@pytest.fixture(scope="module")
def shop(lake: Settings) -> Table:
    """String ids, untimed histories, ragged candidate features."""
    spec = SPECS["shop"]
    return write_request_table(lake, spec, reference_requests(raw_log(spec), spec))


def test_both_engines_give_the_same_rows_and_types(battery: Settings) -> None:
    with ThreadPoolExecutor(4) as pool:
        apart = list(itertools.chain.from_iterable(pool.map(lambda case: _differences(battery, case), CASES)))
    assert apart == []


def _differences(lake: Settings, case: Case) -> list[str]:
    """What one query gives otherwise on one engine than on the other, or than what is written beside it."""
    tables = {"trino": sql.query(lake, case.sql), "duckdb": sql.query(embedded(lake), case.sql)}
    apart = []
    for engine, table in tables.items():
        found = list(zip(*(column.to_pylist() for column in table.columns), strict=True))
        if rows_of(case, found) != rows_of(case, case.rows):
            apart.append(f"{case.name} on {engine}: {found}")
    names = [[name.lower() for name in table.schema.names] for table in tables.values()]
    if names[0] != names[1]:
        apart.append(f"{case.name}: named {names}")
    if case.name not in OTHER_TYPES and tables["trino"].schema.types != tables["duckdb"].schema.types:
        apart.append(f"{case.name}: typed {[table.schema.types for table in tables.values()]}")
    return apart


def test_pins_hold_for_tables_and_for_views(lake: Settings, feed: Table) -> None:
    spec = SPECS["feed"]
    view_server.apply(lake, spec)
    first = feed.history()[0].snapshot_id
    feed.manage_snapshots().create_tag(first, "monday").commit()
    both = (lake, embedded(lake))
    for text in ("SELECT count(*) AS n FROM feed_requests", "SELECT count(*) AS n FROM feed_impressions AS i"):
        now, then, by_id = ([sql.query(s, text, **pin).to_pylist() for s in both] for pin in PINS(first))
        assert now[0] == now[1]
        assert then[0] == then[1] == by_id[0] == by_id[1]
        assert then[0][0]["n"] < now[0][0]["n"]
    for s in both:
        with pytest.raises(TableMissingError, match=r"no tag or branch 'mondy'. Did you mean 'monday'"):
            sql.query(s, "SELECT count(*) FROM feed_requests", tag="mondy")
        with pytest.raises(TableMissingError, match="snapshot 12345"):
            sql.query(s, "SELECT count(*) FROM feed_requests", snapshot=12345)


def PINS(snapshot: int) -> list[dict[str, Any]]:  # noqa: N802
    """Now, by tag, by snapshot."""
    return [{}, {"tag": "monday"}, {"snapshot": snapshot}]


@pytest.mark.parametrize("name", ["feed", "shop"])
@pytest.mark.usefixtures("feed", "shop")
def test_every_view_gives_the_rows_that_embedded_sql_gives(name: str, lake: Settings) -> None:
    spec = SPECS[name]
    view_server.apply(lake, spec)
    for view in views(spec):
        text = f"SELECT * FROM {view}"
        on_trino, here = sql.query(lake, text), sql.query(embedded(lake), text)
        assert on_trino.schema.equals(here.schema), view
        assert _sorted(on_trino) == _sorted(here), view
        assert on_trino.num_rows > 0


def _sorted(table: pa.Table) -> list[str]:
    def plain(value: Any) -> Any:
        return "nan" if isinstance(value, float) and math.isnan(value) else value

    return sorted(repr([plain(v) for v in row.values()]) for row in table.to_pylist())


@pytest.mark.usefixtures("feed")
def test_views_are_made_once_replaced_when_the_spec_changes_and_dropped(lake: Settings, query: Any) -> None:
    spec = SPECS["feed"]
    view_server.drop(lake, spec)
    assert {c.action for c in view_server.diff(lake, spec)} == {"create"}
    assert {c.action for c in view_server.apply(lake, spec)} == {"create"}
    assert {c.action for c in view_server.apply(lake, spec)} == {"keep"}
    wider = spec.model_copy(update={"doc": "another word on it"})
    assert {(c.action, c.why) for c in view_server.diff(lake, wider)} == {("replace", "the spec has changed")}
    assert {c.action for c in view_server.apply(lake, wider)} == {"replace"}
    narrower = spec.model_copy(update={"sequences": {}})
    gone = {c.name for c in view_server.diff(lake, narrower) if c.action == "drop"}
    assert gone == {"reqlake.feed_impressions_history", "reqlake.feed_history_events"}
    assert {c.action for c in view_server.drop(lake, spec)} == {"drop"}
    assert query("SELECT count(*) FROM ro.information_schema.tables WHERE table_name LIKE 'feed_impressions%'") == [[0]]


@pytest.mark.usefixtures("feed")
def test_a_view_that_is_not_ours_is_never_touched(lake: Settings, query: Any) -> None:
    spec = SPECS["feed"]
    view_server.drop(lake, spec)
    query("CREATE VIEW lake.reqlake.feed_impressions_core COMMENT 'mine' AS SELECT 1 AS n", user="reqlake")
    try:
        with pytest.raises(SqlError, match=r"nothing was changed: reqlake\.feed_impressions_core is a table"):
            view_server.apply(lake, spec)
        assert view_server.drop(lake, spec) == []
        assert query("SELECT n FROM lake.reqlake.feed_impressions_core", user="reqlake") == [[1]]
    finally:
        query("DROP VIEW lake.reqlake.feed_impressions_core", user="reqlake")


@pytest.mark.usefixtures("feed")
def test_the_flat_view_takes_an_old_tables_place(lake: Settings, query: Any) -> None:
    """Old names, old types, old order: the old table's queries run on it."""
    spec, raw = SPECS["feed"], raw_log(SPECS["feed"])
    query("CREATE TABLE lake.reqlake.old (iid integer, uid bigint, hour bigint, shown_at bigint)", user="reqlake")
    try:
        view_server.apply(lake, spec, flat_as="old_flat", like="old")
        kinds = query("SELECT column_name, data_type FROM ro.information_schema.columns WHERE table_name = 'old_flat'")
        assert kinds == [["iid", "integer"], ["uid", "bigint"], ["hour", "bigint"], ["shown_at", "bigint"]]
        got = query("SELECT uid, iid, shown_at FROM ro.reqlake.old_flat ORDER BY 1, 2, 3")
        wanted = raw.select(["uid", "iid", "shown_at"]).to_pylist()
        assert got == sorted([r["uid"], r["iid"], r["shown_at"]] for r in wanted)
        query("ALTER TABLE lake.reqlake.old ADD COLUMN houre bigint", user="reqlake")
        with pytest.raises(SqlError, match=r"does not hold houre.*Did you mean 'hour'"):
            view_server.diff(lake, spec, flat_as="old_flat", like="old")
    finally:
        query("DROP TABLE lake.reqlake.old", user="reqlake")
        view_server.drop(lake, spec)


@pytest.mark.usefixtures("feed")
def test_what_is_wrong_with_a_query_is_said_in_one_line(lake: Settings) -> None:
    cases = {
        "SELECT * FROM feed_request": "no table or view 'feed_request' on Trino. Did you mean 'feed_requests'",
        "SELECT huor FROM feed_requests": "Column 'huor' cannot be resolved.*Did you mean 'hour'",
        "DROP TABLE feed_requests": "DROP writes: queries only read",
        "SELECT 1; SELECT 2": "give one query, got 2",
        "SELECT FROM WHERE": "this is not Trino SQL",
        "SELECT 1 / 0": "Trino says: Division by zero",
    }
    for text, says in cases.items():
        with pytest.raises(SqlError, match=says):
            sql.query(lake, text)


def test_a_server_that_does_not_answer_is_one_clear_error(lake: Settings) -> None:
    nowhere = lake.model_copy(update={"trino": lake.trino.model_copy(update={"uri": "http://127.0.0.1:9"})})
    with pytest.raises(ServerError, match=r"Trino at http://127.0.0.1:9 does not answer .*reqlake stack status"):
        sql.query(nowhere, "SELECT 1")


@pytest.mark.usefixtures("feed")
def test_the_plan_and_the_names_come_from_trino(lake: Settings) -> None:
    explained = sql.explain(lake, "SELECT count(*) FROM feed_requests")
    assert '"ro"."reqlake"."feed_requests"' in explained.engine_sql
    assert "TableScan" in explained.plan or "ScanProject" in explained.plan
    assert "reqlake.feed_requests" in sql.names(lake)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("array(array(bigint))", pa.list_(pa.list_(pa.int64()))),
        ("timestamp(3) with time zone", pa.timestamp("us", "UTC")),
        ("timestamp(6)", pa.timestamp("us")),
        ("decimal(10,2)", pa.decimal128(10, 2)),
        ("varchar(3)", pa.string()),
        ("map(varchar, array(real))", pa.map_(pa.string(), pa.list_(pa.float32()))),
        ('row(a bigint, "b c" decimal(3,1))', pa.struct([("a", pa.int64()), ("b c", pa.decimal128(3, 1))])),
    ],
)
def test_types_of_trino_are_arrows(name: str, wanted: pa.DataType) -> None:
    assert arrow_type(name) == wanted


def test_a_type_without_a_place_is_named() -> None:
    with pytest.raises(SqlError, match="interval day to second has no place in Arrow: cast it to varchar"):
        arrow_type("interval day to second")


def test_rows_arrive_as_arrow_with_the_tables_types(lake: Settings, feed: Table) -> None:
    table = sql.query(lake, "SELECT * FROM feed_requests ORDER BY request_id LIMIT 3")
    wanted = arrow_schema(SPECS["feed"])
    assert [f.type for f in table.schema] == [wanted.field(name).type for name in table.schema.names]
    assert len(feed.scan(limit=3).to_arrow()) == table.num_rows
    with sql.stream(lake, "SELECT * FROM feed_requests", batch_rows=25) as batches:
        assert sum(batch.num_rows for batch in batches) == 60


@pytest.mark.usefixtures("feed")
def test_a_result_that_is_left_early_leaves_no_query_running(lake: Settings, query: Any) -> None:
    crossed = "feed_requests a, feed_requests b, feed_requests c, feed_requests d"
    with sql.stream(lake, f"SELECT a.item_id AS left_early FROM {crossed}", batch_rows=100) as rows:
        assert rows.read_next_batch().num_rows == 100
    ended = "SELECT state FROM system.runtime.queries WHERE source = 'reqlake' AND query LIKE '%left_early%'"
    assert query(ended) == [["FAILED"]]  # cancelled, in Trino's words


@pytest.mark.usefixtures("feed")
def test_the_command_runs_on_trino_where_a_uri_is_set(lake: Settings) -> None:
    """`reqlake query` in a process, configured by the environment alone."""
    done = subprocess.run(
        [Path(sys.executable).with_name("reqlake"), "query", "SELECT count(*) AS requests FROM feed_requests"],
        env={"REQLAKE_TRINO__URI": str(lake.trino.uri), "REQLAKE_HOME": str(lake.home), "PATH": "/usr/bin"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "60" in done.stdout
