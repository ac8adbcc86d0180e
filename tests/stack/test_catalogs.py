"""One request table through each catalog and each engine: the same rows, lists and snapshots everywhere."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table

from lakehouse import sql
from lakehouse.catalog import open_catalog, spark_catalog_conf
from lakehouse.schema import open_request_table, partition_spec
from lakehouse.settings import Settings, TrinoSettings, load_settings
from lakehouse.spec import Partition
from lakehouse.stack.config import merge_settings
from lakehouse.stack.state import Stack
from lakehouse.upkeep.relayout import begin, with_layout
from lakehouse.upkeep.swap import drop_whole, swap
from tests.stack.glue import mock_glue
from tests.stack.rest_catalog import rest_catalog
from tests.support.datasets import SPECS, raw_log, reference_requests, write_request_table

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def rest(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    with rest_catalog(stack, tmp_path_factory.mktemp("rest")) as uri:
        catalog = {"type": "rest", "name": "rest", "uri": uri, "warehouse": "s3://lake/rest"}
        yield load_settings(catalog=catalog, s3=stack.settings(("s3",))["s3"])


@pytest.fixture(scope="module")
def glue(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    pytest.importorskip("moto")
    with mock_glue(tmp_path_factory.mktemp("glue")) as uri:
        keys = {"glue.endpoint": uri, "glue.region": "us-east-1"}
        keys |= {"glue.access-key-id": "anyone", "glue.secret-access-key": "anything"}
        catalog = {"type": "glue", "warehouse": "s3://lake/glue", "properties": keys}
        yield load_settings(catalog=catalog, s3=stack.settings(("s3",))["s3"])


@pytest.fixture(params=["sqlite", "lake", "rest", "glue"])
def catalog_settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """SQLite with local files; Postgres, an Iceberg REST catalog and Glue (as moto has it) with S3."""
    if request.param == "sqlite":
        return load_settings(home=tmp_path / "lake")
    chosen: Settings = request.getfixturevalue(request.param)
    return chosen


@pytest.mark.parametrize("name", ["shop", "video"])
def test_a_request_table_comes_back_as_it_was_written(catalog_settings: Settings, name: str) -> None:
    """Strings, vectors, lists of lists, nulls; two commits; partitions by month and bucket."""
    spec = SPECS[name]
    wanted = reference_requests(raw_log(spec, users=7), spec)
    table = write_request_table(catalog_settings, spec, wanted)
    again = open_request_table(open_catalog(catalog_settings), spec, catalog_settings)
    assert len(again.snapshots()) == len(table.snapshots()) == 2
    keys = [("user_id", "ascending"), ("request_id", "ascending")]
    assert rows(again.scan().to_arrow().sort_by(keys)) == rows(wanted.sort_by(keys))

    embedded = catalog_settings.model_copy(update={"trino": TrinoSettings()})
    flat = sql.query(embedded, f"SELECT request_id, item_id FROM {name}_impressions WHERE user_id IS NOT NULL")
    pairs = [(r["request_id"], item) for r in rows(wanted) for item in r["item_id"]]
    assert sorted(map(repr, zip(*flat.to_pydict().values(), strict=True))) == sorted(map(repr, pairs))
    (scan,) = sql.explain(embedded, f"SELECT 1 FROM {name}_requests WHERE user_id = {wanted['user_id'][0]}").scans
    assert 0 < scan.files < scan.files_in_all


def test_two_tables_trade_places(catalog_settings: Settings) -> None:
    """At once in a SQL catalog, by renames in the others; not at all where one of them has moved on."""
    spec, catalog = SPECS["feed"].model_copy(update={"name": "traded"}), open_catalog(catalog_settings)
    requests = reference_requests(raw_log(SPECS["feed"], users=2), spec)
    old = write_request_table(catalog_settings, spec, requests, files=1)
    wanted, name = with_layout(spec, Partition(grain="none", buckets=3)), spec.table()
    stale = begin(old, wanted, f"{name}_anew", catalog_settings)
    new = catalog.load_table(f"{name}_anew")
    new.append(old.scan().to_arrow().cast(new.schema().as_arrow()))
    with pytest.raises(CommitFailedException):
        swap(catalog, old, stale, f"{name}_before", catalog_settings)
    assert catalog.load_table(name).metadata.table_uuid == old.metadata.table_uuid
    swap(catalog, old, new.refresh(), f"{name}_before", catalog_settings)
    there = open_request_table(catalog, spec, catalog_settings)
    assert rows(there.scan().to_arrow().sort_by("request_id")) == rows(old.scan().to_arrow().sort_by("request_id"))
    assert there.spec() == partition_spec(wanted, there.schema())
    swap(catalog, there, catalog.load_table(f"{name}_before"), f"{name}_before", catalog_settings)
    assert catalog.load_table(name).metadata.table_uuid == old.metadata.table_uuid
    assert drop_whole(catalog, f"{name}_before", catalog_settings) > 0
    assert not catalog.table_exists(f"{name}_before")


def rows(table: pa.Table) -> list[dict]:
    return table.to_pylist()


def test_pyiceberg_writes_and_trino_reads(feed: Table, query: Callable[..., list]) -> None:
    wanted = feed.scan().to_arrow()
    requests = rows(wanted)
    assert query("SELECT count(*) FROM ro.reqlake.feed_requests") == [[len(requests)]]

    lists = query("SELECT user_id, request_id, history_item_id, CAST(score AS double) FROM ro.reqlake.feed_requests")
    assert sorted(map(repr, lists)) == sorted(
        repr([r["user_id"], r["request_id"], r["history_item_id"], r["score"]]) for r in requests
    )

    flat = query(
        "SELECT request_id, place, item, clicked FROM ro.reqlake.feed_requests "
        "CROSS JOIN UNNEST(position, item_id, click) AS u (place, item, clicked)"
    )
    assert sorted(map(tuple, flat)) == sorted(
        (r["request_id"], *candidate)
        for r in requests
        for candidate in zip(r["position"], r["item_id"], r["click"], strict=True)
    )

    snapshots = query('SELECT snapshot_id FROM ro.reqlake."feed_requests$snapshots" ORDER BY committed_at')
    assert [s for (s,) in snapshots] == [s.snapshot_id for s in feed.snapshots()]
    first = feed.snapshots()[0].snapshot_id
    as_of = query(f"SELECT count(*) FROM ro.reqlake.feed_requests FOR VERSION AS OF {first}")
    assert as_of == [[feed.scan(snapshot_id=first).to_arrow().num_rows]]


def documented() -> list[str]:
    text = (Path(__file__).parents[2] / "docs" / "catalogs.md").read_text()
    return re.findall(r"```toml\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("text", documented(), ids=lambda text: text.split("\n")[1])
def test_documented_settings_are_accepted(text: str) -> None:
    """Only that: what Glue and Hive answer to them is not tried here."""
    given = tomllib.loads(text)
    settings = load_settings(**given)
    assert settings.catalog.warehouse.startswith(given.get("catalog", {}).get("warehouse", "file:"))
    assert f"spark.sql.catalog.{settings.catalog.in_spark}.type" in spark_catalog_conf(settings)


IN_SPARK = """
    import json, os, sys
    from lakehouse.settings import load_settings
    from spark_jobs.session import build_session
    for folder in sys.argv[1:]:
        os.chdir(folder)
        settings = load_settings()
        spark = build_session(settings)
        name = f"{settings.catalog.in_spark}.reqlake.spark_requests"
        table = spark.table(name)
        found = {
            "requests": table.count(),
            "events": table.selectExpr("sum(size(history_item_id))").first()[0],
            "clicks": table.selectExpr("explode(click) AS c").selectExpr("sum(c)").first()[0],
        }
        table.limit(7).coalesce(1).writeTo(name).append()
        print(json.dumps(found | {"after": spark.table(name).count()}))
    spark.stop()
    """


@pytest.mark.spark
def test_spark_reads_and_writes_what_pyiceberg_wrote(
    stack: Stack, lake: Settings, rest: Settings, tmp_path: Path, query: Callable[..., list]
) -> None:
    """In a process of its own that knows nothing but `reqlake.toml`, as `reqlake stack up` leaves it."""
    raw = reference_requests(raw_log(SPECS["feed"]), SPECS["feed"])
    spec = SPECS["feed"].model_copy(update={"name": "spark"})
    tables = []
    for settings in (lake, rest):
        tables.append(write_request_table(settings, spec, raw))
        sections = stack.settings(("postgres", "s3", "trino"))
        sections["catalog"] = {k: getattr(settings.catalog, k) for k in ("type", "name", "uri", "warehouse")}
        folder = tmp_path / settings.catalog.name
        folder.mkdir()
        merge_settings(folder / "reqlake.toml", sections)

    answer = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(IN_SPARK), tmp_path / "lake", tmp_path / "rest"],
        env={**os.environ, "REQLAKE_HOME": str(tmp_path), "REQLAKE_SPARK__DRIVER_MEMORY": "1g"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr[-3000:]
    wanted = {
        "requests": len(raw),
        "events": sum(map(len, raw["history_item_id"].to_pylist())),
        "clicks": sum(map(sum, raw["click"].to_pylist())),
        "after": len(raw) + 7,
    }
    assert [json.loads(line) for line in answer.stdout.splitlines()[-2:]] == [wanted, wanted]
    assert [table.refresh().scan().to_arrow().num_rows for table in tables] == [len(raw) + 7] * 2
    assert query("SELECT count(*) FROM ro.reqlake.spark_requests") == [[len(raw) + 7]]
