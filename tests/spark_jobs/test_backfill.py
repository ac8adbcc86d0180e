"""Backfill: what the source says, where it lies, without moving the table; again after a death."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import orc

from lakehouse.catalog import open_catalog
from lakehouse.schema import table_spec
from lakehouse.settings import Settings
from spark_jobs import backfill, compact
from spark_jobs.errors import BackfillError
from tests.spark_jobs.conftest import rows_of
from tests.spark_jobs.test_compact import in_order
from tests.spark_jobs.test_expire import Killed, die
from tests.support.datasets import SPECS, raw_log, reference_requests, write_request_table

pytestmark = pytest.mark.spark


def made(settings: Settings, name: str) -> tuple[Any, list[dict[str, Any]]]:
    spec = SPECS[name]
    rows = reference_requests(raw_log(spec, users=6, fanout=3), spec)
    return write_request_table(settings, spec, rows, files=1), rows.to_pylist()


def source_of(rows: list[dict[str, Any]], column: str, kind: pa.DataType, folder: Path, value: Any) -> str:
    """A request-level source file."""
    data = {c: pa.array([r[c] for r in rows], pa.int64()) for c in ("user_id", "request_id")}
    pq.write_table(pa.table(data | {column: pa.array([value(r) for r in rows], kind)}), folder / "source.parquet")
    return str(folder / "source.parquet")


def written_plan(spark: Any) -> str:
    """The physical plan of the last write, as Spark ran it."""
    runs = spark._jsparkSession.sharedState().statusStore().executionsList()
    plans = [runs.apply(i).physicalPlanDescription() for i in range(runs.size())]
    return str(next(p for p in reversed(plans) if "OverwritePartitionsDynamic" in p))


def above(plan: str, scan: str) -> list[str]:
    """The operators between the root and the first scan of a table, from the plan's last tree."""
    lines = plan.split("== Physical Plan ==")[1].split("\n\n", maxsplit=1)[0].splitlines()
    found = max(i for i, line in enumerate(lines) if "BatchScan" in line and scan in line)
    place = lambda line: re.search(r"[A-Za-z*]", line).start()  # type: ignore[union-attr] # noqa: E731
    path, depth = [lines[found]], place(lines[found])
    for line in reversed(lines[:found]):
        if line.strip() and re.search("[A-Za-z]", line) and place(line) < depth:
            depth = place(line)
            path.append(line)
    return path


@pytest.mark.parametrize(("name", "broadcast"), [("feed", "-1"), ("shop", "-1"), ("feed", "10MB")])
def test_a_new_request_feature_without_moving_the_table(
    spark: Any, settings: Settings, tmp_path: Path, name: str, broadcast: str
) -> None:
    table, rows = made(settings, name)
    source = source_of(rows[:-2], "trust", pa.float32(), tmp_path, lambda r: float(r["request_id"] % 7))
    spark.conf.set("spark.sql.autoBroadcastJoinThreshold", broadcast)
    spark.conf.set("spark.sql.ui.explainMode", "formatted")
    spark.conf.set("spark.sql.maxPlanStringLength", "1000000")  # session.py cuts plans short
    report = backfill.run(spark, settings, SPECS[name], "trust", source)
    after = table.refresh().scan().to_arrow()
    wanted = {(r["user_id"], r["request_id"]): float(r["request_id"] % 7) for r in rows[:-2]}
    for row in after.to_pylist():
        assert row["trust"] == wanted.get((row["user_id"], row["request_id"]))
    kept = after.drop_columns(["trust"])
    assert rows_of(kept) == rows_of(pa.Table.from_pylist(rows, schema=kept.schema))
    assert (report.keys.source, report.keys.extra, report.keys.missing) == (len(rows) - 2, 0, 2)
    assert report.added
    assert table_spec(table).column("trust").role == "request"
    assert in_order(table)
    operators = above(written_plan(spark), f"{SPECS[name].name}_requests")
    assert len(operators) > 3
    assert not [o for o in operators if "Exchange" in o], "\n".join(operators)


@pytest.mark.parametrize("key", ["item_id", "position"])
def test_a_candidate_feature_by_item_or_position(spark: Any, settings: Settings, key: str) -> None:
    table, rows = made(settings, "feed")
    pairs = [(r["user_id"], r["request_id"], k) for r in rows for k in r[key]]
    columns = dict(zip(("user_id", "request_id", key), map(list, zip(*pairs[3:], strict=True)), strict=True))
    columns = {c: pa.array(v, pa.int32() if c == "position" else pa.int64()) for c, v in columns.items()}
    catalog = open_catalog(settings)
    source = catalog.create_table(
        "reqlake.prices", pa.schema({**{c: v.type for c, v in columns.items()}, "price": pa.float32()})
    )
    source.append(pa.table(columns | {"price": pa.array([float(k % 100) for _, _, k in pairs[3:]], pa.float32())}))
    report = backfill.run(spark, settings, SPECS["feed"], "price", "reqlake.prices")
    filled = set(pairs[3:])
    old = {(r["user_id"], r["request_id"]): r["price"] for r in rows}
    for row in table.refresh().scan().to_arrow().to_pylist():
        for i, (k, price) in enumerate(zip(row[key], row["price"], strict=True)):
            there = (row["user_id"], row["request_id"], k) in filled
            assert price == (float(k % 100) if there else old[row["user_id"], row["request_id"]][i])
    assert (report.added, report.keys.extra, report.keys.missing) == (False, 0, 3)


def test_keys_that_cannot_be_used_are_refused_and_extra_ones_counted(
    spark: Any, settings: Settings, tmp_path: Path
) -> None:
    table, rows = made(settings, "feed")
    spec, before = SPECS["feed"], table.current_snapshot()
    twice = source_of([*rows, rows[0]], "trust", pa.int64(), tmp_path, lambda _: 1)
    with pytest.raises(BackfillError, match=r"1 keys are in .* more than once \(2 rows\), such as user_id"):
        backfill.run(spark, settings, spec, "trust", twice)
    null = source_of([*rows, {"user_id": None, "request_id": 1}], "trust", pa.int64(), tmp_path, lambda _: 1)
    with pytest.raises(BackfillError, match=r"1 rows of .* have a null"):
        backfill.run(spark, settings, spec, "trust", null)
    orc.write_table(pa.table({"user_id": [1]}), tmp_path / "x.orc")
    with pytest.raises(BackfillError, match=r"x.orc: a backfill's source is Parquet"):
        backfill.run(spark, settings, spec, "trust", str(tmp_path / "x.orc"))
    with pytest.raises(BackfillError, match="has no column other"):
        backfill.run(spark, settings, spec, "other", null)
    with pytest.raises(BackfillError, match="history_item_id is a sequence column"):
        backfill.run(
            spark,
            settings,
            spec,
            "history_item_id",
            source_of(rows, "history_item_id", pa.int64(), tmp_path, lambda _: 1),
        )
    assert table.refresh().current_snapshot() == before
    assert "trust" not in table.schema().column_names
    extra = source_of([*rows[1:], {"user_id": -1, "request_id": -1}], "hour", pa.int32(), tmp_path, lambda _: 3)
    planned = backfill.run(spark, settings, spec, "hour", extra, missing="null", dry_run=True)
    assert table.refresh().current_snapshot() == before
    report = backfill.run(spark, settings, spec, "hour", extra, missing="null")
    assert (planned.keys, planned.partitions, planned.added) == (report.keys, report.partitions, False)
    assert (report.keys.extra, report.keys.missing) == (1, 1)
    hours = {(r["user_id"], r["request_id"]): r["hour"] for r in table.refresh().scan().to_arrow().to_pylist()}
    assert set(hours.values()) == {3, None}
    assert hours[rows[0]["user_id"], rows[0]["request_id"]] is None


def test_killed_between_groups_goes_on_and_another_writer_is_not_overwritten(
    spark: Any, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, rows = made(settings, "shop")
    spec = SPECS["shop"]
    source = source_of(rows, "trust", pa.int64(), tmp_path, lambda r: r["request_id"] % 5)
    monkeypatch.setattr(compact, "GROUP_PARTITIONS", 1)
    with monkeypatch.context() as patch:
        patch.setattr("lakehouse.lease.Lease.renew", die)
        with pytest.raises(Killed):
            backfill.run(spark, settings, spec, "trust", source)
    assert 0 < table.refresh().scan().to_arrow()["trust"].null_count < len(rows)
    later = table_spec(table)
    fill, late = backfill.fill, reference_requests(raw_log(spec, users=9, seed=3), spec).slice(0, 5)
    late = late.set_column(1, late.schema.field("request_id"), pa.array(range(5), pa.int64()))

    def and_append(*args: Any) -> Any:  # another writer commits between reading and writing
        if len(table.refresh().scan().to_arrow()) == len(rows):
            schema = table.schema().as_arrow()
            rows_of_it = late.append_column("trust", pa.nulls(len(late), pa.int64()))
            table.append(rows_of_it.select(schema.names).cast(schema))
        return fill(*args)

    monkeypatch.setattr(backfill, "fill", and_append)
    report = backfill.run(spark, settings, later, "trust", source)
    assert (report.resumed, report.partitions, report.added) == (1, 2, False)
    after = table.refresh().scan().to_arrow().to_pylist()
    assert len(after) == len(rows) + 5
    known = {(r["user_id"], r["request_id"]) for r in rows}
    assert all(r["trust"] == r["request_id"] % 5 for r in after if (r["user_id"], r["request_id"]) in known)
