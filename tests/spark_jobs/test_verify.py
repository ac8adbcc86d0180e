"""Verify: a table that is the raw log passes, and one planted fault of each kind does not."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from lakehouse.catalog import open_catalog
from lakehouse.errors import RawDataError, TableMissingError
from lakehouse.settings import Settings
from lakehouse.spec import DatasetSpec
from spark_jobs import ingest, verify
from spark_jobs.verify_report import VerifyReport
from tests.support.datasets import SPECS, raw_log

pytestmark = pytest.mark.spark
FEED = SPECS["feed"]


def dirty(spec: DatasetSpec) -> pa.Table:
    """A raw log with exact duplicates, a row of unknown user, and rows of one request that disagree."""
    raw = raw_log(spec, users=6, requests_per_user=2)
    rows = raw.to_pylist()
    nobody = rows[3] | {spec.keys.user_id.column: None}
    feature = spec.columns("request")[0]
    other = dict(rows[5])
    swapped = {c.raw: rows[6][c.raw] for c in spec.columns("request", "sequence")}
    assert other[feature.raw] is not Ellipsis
    rows[5] = rows[5] | {k: v for k, v in swapped.items() if not k.endswith(("_ts", "_at"))}
    lengths_ok = [r for r in (rows[5],) if _aligned(r, spec)]
    rows[5] = lengths_ok[0] if lengths_ok else other
    return pa.Table.from_pylist([*rows, rows[0], rows[0], rows[9], nobody], schema=raw.schema)


def _aligned(row: dict[str, Any], spec: DatasetSpec) -> bool:
    for group in spec.sequences:
        lists = [row[c.raw] for c in spec.columns("sequence") if c.group == group]
        if len({len(values or []) for values in lists}) > 1:
            return False
    return True


@pytest.mark.parametrize("name", SPECS)
def test_a_table_that_is_the_raw_log_passes(
    name: str, spark: Any, settings: Settings, write: Callable[..., str]
) -> None:
    spec = SPECS[name]
    folder = write(dirty(spec))
    done = ingest.run(spark, settings, spec, [folder])
    report = verify.run(spark, settings, spec, [folder])
    assert report.ok, report
    assert report.differences == ()
    assert report.raw_rows == done.raw_rows == report.expanded_rows + report.quarantined_rows + report.duplicate_rows
    assert report.expanded_rows == done.accepted_rows
    assert report.duplicate_rows == done.duplicate_rows >= 3
    assert report.quarantined_rows == sum(done.quarantined.values()) >= 1
    assert report.requests == done.requests
    assert report.snapshot_id == done.snapshot_id


Row = dict[str, Any]


def _set(column: str, value: Any, at: int | None = None) -> Callable[[list[Row]], list[Row]]:
    """Change one value of the first row, or of one of its list elements."""

    def change(rows: list[Row]) -> list[Row]:
        row = rows[0]
        new = value(row[column] if at is None else row[column][at])
        changed = new if at is None else [new if i == at else v for i, v in enumerate(row[column])]
        return [row | {column: changed}, *rows[1:]]

    return change


def _lose_impression(rows: list[Row]) -> list[Row]:
    lists = [c.name for c in FEED.columns() if c.per_candidate]
    return [rows[0] | {name: rows[0][name][:-1] for name in lists}, *rows[1:]]


def _double_impression(rows: list[Row]) -> list[Row]:
    lists = [c.name for c in FEED.columns() if c.per_candidate]
    again = rows[0] | {name: [*rows[0][name], rows[0][name][-1]] for name in lists}
    return [again | {"position": list(range(len(again["position"])))}, *rows[1:]]


def _swap_clicks(rows: list[Row]) -> list[Row]:
    """Two labels change places between requests of one day: the plain sum of values stays as it was."""
    a = next(i for i, r in enumerate(rows) if r["click"][0] == 1)
    b = next(
        i for i, r in enumerate(rows) if r["click"][0] == 0 and r["request_ts"].date() == rows[a]["request_ts"].date()
    )
    out = [dict(row) for row in rows]
    out[a]["click"] = [0.0, *rows[a]["click"][1:]]
    out[b]["click"] = [1.0, *rows[b]["click"][1:]]
    return out


def _move_null(rows: list[Row]) -> list[Row]:
    at = next(i for i, r in enumerate(rows) if r["country"] is None)
    return [row | {"country": ""} if i == at else row for i, row in enumerate(rows)]


PLANTS: dict[str, tuple[Callable[[list[Row]], list[Row]], str, str]] = {
    # what is done to the table's rows, the kind of difference, the column
    "a label": (_set("click", lambda v: 1 - v, 0), "differs", "click"),
    "a candidate feature": (_set("category", lambda v: v + 1, 1), "differs", "category"),
    "a request feature": (_set("hour", lambda v: (v + 1) % 24), "differs", "hour"),
    "an event of a history": (_set("history_item_id", lambda v: v + 1, 0), "differs", "history_item_id"),
    "a history that lost its last event": (_set("history_action", lambda v: v[:-1]), "differs", "history_action"),
    "a null that became empty": (_move_null, "differs", "country"),
    "an item": (_set("item_id", lambda v: v + 1000, 0), "missing", ""),
    "labels that changed places": (_swap_clicks, "differs", "click"),
    "a lost impression": (_lose_impression, "missing", ""),
    "a doubled impression": (_double_impression, "extra", ""),
    "a lost request": (lambda rows: rows[1:], "missing", ""),
    "a doubled request": (lambda rows: [rows[0], *rows], "extra", ""),
}
WHOLE: dict[str, tuple[Callable[[list[Row]], list[Row]], str]] = {
    "a time": (_set("request_ts", lambda v: v.replace(microsecond=1)), "request_ts"),
    "a hash": (_set("request_hash", lambda v: v ^ 1), "request_hash"),
    "a position": (_set("position", lambda v: v + 1, 0), "position"),
}


def test_one_planted_fault_of_each_kind_is_found(spark: Any, settings: Settings, write: Callable[..., str]) -> None:
    folder = write(raw_log(FEED, users=5, requests_per_user=2, history=6))
    ingest.run(spark, settings, FEED, [folder])
    table = open_catalog(settings).load_table("reqlake.feed_requests")
    whole = table.scan().to_arrow()
    rows = sorted(whole.to_pylist(), key=lambda r: -len(r["item_id"]) * min(len(r["history_ts"]), 2))

    def planted(change: Callable[[list[Row]], list[Row]]) -> VerifyReport:
        table.refresh().overwrite(pa.Table.from_pylist(change(rows), schema=whole.schema))
        return verify.run(spark, settings, FEED, [folder])

    assert planted(lambda same: same).ok
    for name, (change, kind, column) in PLANTS.items():
        report = planted(change)
        assert not report.ok, name
        assert report.differing_rows >= 1, name
        assert report.differences[0].kind == kind, (name, report.differences[0])
        if column:
            assert column in report.differences[0].columns, (name, report.differences[0])
            before, after = report.differences[0].columns[column]
            assert before != after, name
            assert {c for day in report.days for c in day.differing} == {column}, name
    for name, (change, column) in WHOLE.items():
        report = planted(change)
        assert not report.ok, name
        assert report.request_faults.get(column) == 1, (name, report.request_faults)


@pytest.mark.parametrize("rule", ["first", "latest"])
def test_features_that_another_row_supplied_are_counted_not_faulted(
    rule: str, spark: Any, settings: Settings, write: Callable[..., str]
) -> None:
    spec = FEED.model_copy(update={"conflict": rule})
    raw = raw_log(spec, users=4, requests_per_user=1, fanout=6)
    request = pc.mode(raw["rid"])[0]["mode"]
    rows = raw.to_pylist()
    at = next(i for i, row in enumerate(rows) if row["rid"] == request.as_py())
    rows[at] = rows[at] | {"country": "xx"}
    folder = write(pa.Table.from_pylist(rows, schema=raw.schema))
    done = ingest.run(spark, settings, spec, [folder])
    report = verify.run(spark, settings, spec, [folder])
    assert report.ok, report
    assert report.overruled_rows == done.conflict_rows >= 1

    table = open_catalog(settings).load_table("reqlake.feed_requests")
    invented = table.scan().to_arrow().to_pylist()
    mine = next(row for row in invented if row["request_id"] == request.as_py())
    mine["country"] = "nobody said this"
    table.overwrite(pa.Table.from_pylist(invented, schema=table.schema().as_arrow()))
    report = verify.run(spark, settings, spec, [folder])
    assert not report.ok
    assert "country" in report.differences[0].columns


def test_sensitive_values_are_masked(spark: Any, settings: Settings, write: Callable[..., str]) -> None:
    spec = SPECS["shop"]
    folder = write(raw_log(spec, users=3, requests_per_user=1))
    ingest.run(spark, settings, spec, [folder])
    table = open_catalog(settings).load_table("reqlake.shop_requests")
    rows = table.scan().to_arrow().to_pylist()
    rows[0]["user_id_raw"] = "kunde-ü99"
    table.overwrite(pa.Table.from_pylist(rows, schema=table.schema().as_arrow()))
    report = verify.run(spark, settings, spec, [folder])
    found = report.differences[0]
    assert (found.user_id, found.columns["user_id_raw"]) == ("***", ("***", "***"))
    assert "kunde" not in repr(report)


def test_files_that_were_moved_are_the_same_files(
    spark: Any, settings: Settings, write: Callable[..., str], tmp_path: Path
) -> None:
    folder = write(dirty(FEED))
    ingest.run(spark, settings, FEED, [folder])
    moved = shutil.move(folder, tmp_path / "elsewhere")
    report = verify.run(spark, settings, FEED, [str(moved)])
    assert report.ok
    assert report.quarantined_rows >= 1


def test_files_that_do_not_fit_the_table_are_named(spark: Any, settings: Settings, write: Callable[..., str]) -> None:
    one = write(raw_log(FEED, users=2), "one", files=1)
    with pytest.raises(TableMissingError, match=r"no table reqlake\.feed_requests"):
        verify.run(spark, settings, FEED, [one])
    ingest.run(spark, settings, FEED, [one])
    later = raw_log(FEED, users=2, seed=1)
    later = later.set_column(0, "uid", pc.add(later["uid"], 100))
    other = write(later, "other", files=1)
    with pytest.raises(RawDataError, match=r"not in the table yet: other-0\.parquet.*reqlake ingest"):
        verify.run(spark, settings, FEED, [one, other])
    ingest.run(spark, settings, FEED, [other])
    with pytest.raises(RawDataError, match="also made of 1 files that were not given"):
        verify.run(spark, settings, FEED, [one])
    assert verify.run(spark, settings, FEED, [one, other]).ok
