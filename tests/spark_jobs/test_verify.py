"""Verify: a table that is the raw log passes, and one planted fault of each kind does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from pyiceberg.table import Table

from lakehouse.catalog import open_catalog
from lakehouse.errors import RawDataError, TableMissingError
from lakehouse.settings import Settings
from lakehouse.spec import DatasetSpec
from spark_jobs import ingest, verify
from spark_jobs.report import IngestReport
from spark_jobs.session import build_session
from spark_jobs.verify_report import VerifyReport
from tests.spark_jobs.conftest import embedded
from tests.support.datasets import SPECS, raw_log

pytestmark = pytest.mark.spark
FEED = SPECS["feed"]


@dataclass(frozen=True)
class Lake:
    settings: Settings
    raw: Path
    done: IngestReport

    @property
    def spark(self) -> Any:
        return build_session(self.settings)


def dirty(spec: DatasetSpec, users: int = 6) -> pa.Table:
    """A raw log with exact duplicates, a row of unknown user, and rows of one request that disagree."""
    raw = raw_log(spec, users=users, requests_per_user=2)
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


@pytest.fixture(scope="module")
def lake(jvm: None, tmp_path_factory: pytest.TempPathFactory) -> Lake:  # noqa: ARG001
    """One ingested lake; what plants a fault in it puts the table back."""
    home = tmp_path_factory.mktemp("verify")
    settings = embedded(home)
    rows = dirty(FEED, users=12)
    half = len(rows) // 2
    for i, part in enumerate((rows.slice(0, half), rows.slice(half))):
        pq.write_table(part, home / f"part-{i}.parquet")
    done = ingest.run(build_session(settings), settings, FEED, [home / "*.parquet"])
    moved = home / "moved"
    moved.mkdir()
    for path in home.glob("*.parquet"):
        path.rename(moved / path.name)
    return Lake(settings, moved, done)


def holds(report: VerifyReport, done: IngestReport) -> None:
    assert report.ok, report
    assert report.differences == ()
    assert report.raw_rows == done.raw_rows == report.expanded_rows + report.quarantined_rows + report.duplicate_rows
    assert report.expanded_rows == done.accepted_rows
    assert report.duplicate_rows == done.duplicate_rows >= 3
    assert report.quarantined_rows == sum(done.quarantined.values()) >= 1
    assert report.requests == done.requests
    assert report.snapshot_id == done.snapshot_id


def test_a_table_that_is_the_raw_log_passes_wherever_its_files_lie_now(lake: Lake) -> None:
    holds(verify.run(lake.spark, lake.settings, FEED, [lake.raw]), lake.done)


def test_vectors_and_ragged_candidates_pass(spark: Any, settings: Settings, write: Callable[..., str]) -> None:
    spec = SPECS["video"]
    folder = write(dirty(spec))
    done = ingest.run(spark, settings, spec, [folder])
    holds(verify.run(spark, settings, spec, [folder]), done)


Row = dict[str, Any]
LISTS = [c.name for c in FEED.columns() if c.per_candidate]


def _set(column: str, value: Any, at: int | None = None) -> Callable[[Row], list[Row]]:
    """Change one value of a row, or of one of its list elements."""

    def change(row: Row) -> list[Row]:
        new = value(row[column] if at is None else row[column][at])
        changed = new if at is None else [new if i == at else v for i, v in enumerate(row[column])]
        return [row | {column: changed}]

    return change


def _lose_impression(row: Row) -> list[Row]:
    return [row | {name: row[name][:-1] for name in LISTS}]


def _double_impression(row: Row) -> list[Row]:
    again = row | {name: [*row[name], row[name][-1]] for name in LISTS}
    return [again | {"position": list(range(len(again["position"])))}]


PLANTS: dict[str, tuple[Callable[[Row], list[Row]], str, str]] = {
    # what is done to a row of the table, the kind of difference, the column
    "a label": (_set("click", lambda v: 1 - v, 0), "differs", "click"),
    "a candidate feature": (_set("category", lambda v: v + 1, 1), "differs", "category"),
    "a request feature": (_set("hour", lambda v: (v + 1) % 24), "differs", "hour"),
    "an event of a history": (_set("history_item_id", lambda v: v + 1, 0), "differs", "history_item_id"),
    "a shorter history": (_set("history_action", lambda v: v[:-1]), "differs", "history_action"),
    "a null that became empty": (_set("country", lambda v: "" if v is None else None), "differs", "country"),
    "an item": (_set("item_id", lambda v: v + 1000, 0), "missing", ""),
    "a lost impression": (_lose_impression, "missing", ""),
    "a doubled impression": (_double_impression, "extra", ""),
    "a lost request": (lambda _: [], "missing", ""),
    "a doubled request": (lambda row: [row, row], "extra", ""),
}
WHOLE: dict[str, Callable[[Row], list[Row]]] = {
    "request_ts": _set("request_ts", lambda v: v.replace(microsecond=1)),
    "request_hash": _set("request_hash", lambda v: v ^ 1),
    "position": _set("position", lambda v: v + 1, 0),
}


@pytest.fixture
def table(lake: Lake) -> Iterator[Table]:
    """The lake's table, put back afterwards."""
    table = open_catalog(lake.settings).load_table("reqlake.feed_requests")
    whole = table.scan().to_arrow()
    yield table
    table.refresh().overwrite(whole)


def test_planted_faults_are_found(lake: Lake, table: Table) -> None:
    whole = table.scan().to_arrow()
    rows = sorted(whole.to_pylist(), key=lambda r: -min(len(r["item_id"]), 2) * min(len(r["history_ts"]), 2))

    def verified(changed: list[Row]) -> VerifyReport:
        table.refresh().overwrite(pa.Table.from_pylist(changed, schema=whole.schema))
        return verify.run(lake.spark, lake.settings, FEED, [lake.raw], examples=100)

    # Two labels change places within a day: sums of values stay as they were, keyed ones do not.
    ones, zeros = ([r for r in rows if r["click"][0] == v] for v in (1, 0))
    a, b = next((a, b) for a in ones for b in zeros if a["request_ts"].date() == b["request_ts"].date())
    swapped = [r | {"click": [1 - r["click"][0], *r["click"][1:]]} if r in (a, b) else r for r in rows]
    report = verified(swapped)
    assert not report.ok
    assert report.balanced
    assert report.request_faults == {}
    assert {c for day in report.days for c in day.differing} == {"click"}
    assert {d.request_id for d in report.differences} == {str(a["request_id"]), str(b["request_id"])}
    assert {d.columns["click"] for d in report.differences} == {("0.0", "1.0"), ("1.0", "0.0")}
    assert report.differing_rows == 2

    out, request_of = [], {}
    changes = {name: change for name, (change, _, _) in PLANTS.items()} | WHOLE
    for i, row in enumerate(rows):
        name = list(changes)[i] if i < len(changes) else ""
        request_of[name] = str(row["request_id"])
        out += changes[name](row) if name else [row]
    report = verified(out)
    for name, (_, kind, column) in PLANTS.items():
        mine = [d for d in report.differences if d.request_id == request_of[name]]
        assert kind in {d.kind for d in mine}, (name, mine)
        assert {c for d in mine for c in d.columns} == ({column} if column else set()), (name, mine)
    assert report.request_faults == dict.fromkeys(WHOLE, 1) | {"request_hash": 5}  # four features are flipped as well


def overruled(rule: str, settings: Settings, write: Callable[..., str]) -> tuple[DatasetSpec, int, Lake]:
    """A lake in which one row's country was overruled by its request's others, and that request."""
    spec = FEED.model_copy(update={"conflict": rule})
    raw = raw_log(spec, users=4, requests_per_user=1, fanout=6)
    request: int = pc.mode(raw["rid"])[0]["mode"].as_py()
    rows = raw.to_pylist()
    at = next(i for i, row in enumerate(rows) if row["rid"] == request)
    rows[at] = rows[at] | {"country": "xx"}
    folder = write(pa.Table.from_pylist(rows, schema=raw.schema))
    done = ingest.run(build_session(settings), settings, spec, [folder])
    return spec, request, Lake(settings, Path(folder), done)


@pytest.mark.usefixtures("jvm")
def test_features_that_another_row_supplied_are_counted_not_faulted(
    settings: Settings, write: Callable[..., str]
) -> None:
    spec, _, lake = overruled("first", settings, write)
    report = verify.run(lake.spark, settings, spec, [lake.raw])
    assert report.ok, report
    assert report.overruled_rows == lake.done.conflict_rows >= 1


@pytest.mark.usefixtures("jvm")
def test_features_that_no_row_supplied_are_a_fault(settings: Settings, write: Callable[..., str]) -> None:
    spec, request, lake = overruled("latest", settings, write)
    table = open_catalog(settings).load_table("reqlake.feed_requests")
    invented = table.scan().to_arrow().to_pylist()
    mine = next(row for row in invented if row["request_id"] == request)
    mine["country"] = "nobody said this"
    table.overwrite(pa.Table.from_pylist(invented, schema=table.schema().as_arrow()))
    report = verify.run(lake.spark, settings, spec, [lake.raw])
    assert not report.ok
    assert "country" in report.differences[0].columns


def test_sensitive_values_are_masked(spark: Any, settings: Settings, write: Callable[..., str]) -> None:
    spec = SPECS["shop"]
    folder = write(dirty(spec))
    done = ingest.run(spark, settings, spec, [folder])
    holds(verify.run(spark, settings, spec, [folder]), done)
    table = open_catalog(settings).load_table("reqlake.shop_requests")
    rows = table.scan().to_arrow().to_pylist()
    rows[0]["user_id_raw"] = "kunde-ü99"
    table.overwrite(pa.Table.from_pylist(rows, schema=table.schema().as_arrow()))
    report = verify.run(spark, settings, spec, [folder])
    found = report.differences[0]
    assert (found.user_id, found.columns["user_id_raw"]) == ("***", ("***", "***"))
    assert "kunde" not in repr(report)


def test_files_that_do_not_fit_the_table_are_named(lake: Lake, settings: Settings, write: Callable[..., str]) -> None:
    other = write(raw_log(FEED, users=2, seed=1), "other", files=1)
    with pytest.raises(RawDataError, match=r"not in the table yet: other-0\.parquet.*reqlake ingest"):
        verify.run(lake.spark, lake.settings, FEED, [lake.raw, other])
    with pytest.raises(RawDataError, match="also made of 1 files that were not given"):
        verify.run(lake.spark, lake.settings, FEED, [lake.raw / "part-0.parquet"])
    with pytest.raises(TableMissingError, match=r"no table reqlake\.feed_requests"):
        verify.run(build_session(settings), settings, FEED, [other])


def test_impressions_that_late_rows_overruled_are_accounted_for(spark: Any, settings: Settings, write: Any) -> None:
    spec, raw = SPECS["shop"], raw_log(SPECS["shop"], users=4)
    newer = [row | {"version": row["version"] + 1, "sku_price": 0.125} for row in raw.slice(0, 3).to_pylist()]
    folders = [write(raw, "first"), write(pa.Table.from_pylist(newer, schema=raw.schema), "late")]
    for folder in folders:
        done = ingest.run(spark, settings, spec, [folder])
    assert (done.quarantined, done.accepted_rows) == ({"impression_conflict": 3}, 0)
    report = verify.run(spark, settings, spec, folders)
    assert report.ok, report
    assert (report.expanded_rows, report.quarantined_rows) == (len(raw), 3)
