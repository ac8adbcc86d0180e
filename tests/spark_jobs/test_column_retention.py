"""Groups of columns leave partitions that are older than their span; rows, keys, labels and the suite's rules stay."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from lakehouse.catalog import open_catalog
from lakehouse.errors import SpecError
from lakehouse.quality import audit
from lakehouse.settings import Settings
from lakehouse.spec import DatasetSpec, parse_spec
from lakehouse.tags import create_tag
from lakehouse.upkeep.emptied import EMPTIED
from lakehouse.upkeep.relayout import carried
from spark_jobs import column_retention, compact, maintain, verify
from spark_jobs.ingest import run as ingest
from tests.spark_jobs.conftest import rows_of
from tests.spark_jobs.test_compact import due_at, in_order
from tests.spark_jobs.test_expire import Killed, die
from tests.spark_jobs.test_maintain import no_spark
from tests.support.datasets import SPECS, raw_log, reference_requests, write_request_table


def with_retention(name: str, groups: dict[str, Any], **more: Any) -> DatasetSpec:
    data = SPECS[name].model_dump(mode="json", exclude_defaults=True)
    return parse_spec(data | {"retention": groups} | more)


FEED = with_retention(
    "feed",
    {"seen": {"columns": ["history", "score"], "after": "2d"}, "old": {"columns": ["price"], "after": "3d"}},
)
VIDEO = with_retention(
    "video",
    {"all": {"columns": ["taste", "watched", "searched", "look", "tags", "words", "length"], "after": "1d"}},
    partition={"grain": "day", "buckets": 1},
    candidate_features=SPECS["video"].model_dump(mode="json", exclude_defaults=True)["candidate_features"]
    | {"length": {"type": "int", "required": True, "default": -1}},
)


def days_of(rows: pa.Table) -> list[Any]:
    return sorted({at.date() for at in rows["request_ts"].to_pylist()})


def on(day: Any, ago: int) -> datetime:
    """A moment at which a day ended `ago` days before."""
    return datetime(day.year, day.month, day.day, 13, tzinfo=UTC) + timedelta(days=ago + 1)


def plain(rows: pa.Table, emptied: dict[str, Any], last: Any) -> list[dict[str, Any]]:
    """The rows with columns replaced up to a day, in plain Python; a function takes the number of candidates."""
    out = []
    for row in rows.to_pylist():
        if row["request_ts"].date() <= last:
            row |= {k: v(len(row["item_id"])) if callable(v) else v for k, v in emptied.items()}
        out.append(row)
    return rows_of(pa.Table.from_pylist(out, schema=rows.schema))


SEEN = {"history_item_id": [], "history_action": [], "history_ts": [], "score": None}


@pytest.mark.spark
def test_each_group_leaves_its_own_days_once(spark: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = reference_requests(raw_log(FEED, users=6), FEED)
    table = write_request_table(settings, FEED, rows, files=2)
    first, second = days_of(rows)[:2]
    pinned = create_tag(open_catalog(settings), FEED, settings, "v1").snapshot_of(FEED.table())
    now = on(second, 2)
    planned = column_retention.run(no_spark, settings, FEED, now=now, dry_run=True)
    for step in ("_rewrite", "job", "due"):
        with monkeypatch.context() as patch:
            patch.setattr(column_retention, step, die)
            with pytest.raises(Killed):
                column_retention.run(lambda: spark, settings, FEED, now=now)
    done = column_retention.run(lambda: spark, settings, FEED, now=now)
    wanted = plain(rows, SEEN, second)
    for row in wanted:
        row["price"] = [None] * len(row["price"]) if row["request_ts"].date() == first else row["price"]
    table.refresh()
    assert rows_of(table.scan().to_arrow()) == wanted
    assert in_order(table)
    assert done.did == planned.did
    assert "emptied in" in done.did[0]
    assert len(table.scan(snapshot_id=pinned).to_arrow()) == len(rows)
    assert audit(spark.table(f"lake.{FEED.table()}"), FEED).passed

    before = table.metadata_location
    assert column_retention.run(no_spark, settings, FEED, now=now).did == ()
    assert table.refresh().metadata_location == before
    compact.run(spark, due_at(settings, small_files=2), FEED, every=True)
    assert (
        column_retention.run(no_spark, settings, FEED, now=now).did == ()
    )  # the footers of the new files are looked at
    assert maintain.run(no_spark, settings, FEED, dry_run=True)[0].job == "column retention"  # by today all is old

    late = rows.slice(0, 1)  # a writer brings a row of the first day, with its values
    table.refresh().append(late.cast(table.schema().as_arrow()))
    again = column_retention.run(lambda: spark, settings, FEED, now=now)
    assert "in 1 partitions" in again.did[0]
    assert all(
        r["score"] is None for r in rows_of(table.refresh().scan().to_arrow()) if r["request_ts"].date() <= second
    )

    assert any(name.startswith(EMPTIED) for name in table.properties)
    # A table that is laid out anew numbers its commits anew, and has to be looked at.
    assert not any(name.startswith(EMPTIED) for name in carried(table, FEED))


@pytest.mark.exhaustive
@pytest.mark.spark
def test_every_kind_of_column(spark: Any, settings: Settings) -> None:
    rows = reference_requests(raw_log(VIDEO, users=5), VIDEO)
    table = write_request_table(settings, VIDEO, rows, files=1)
    first = days_of(rows)[0]
    column_retention.run(lambda: spark, settings, VIDEO, now=on(first, 1))
    nulls, empties, default = (lambda n, v=v: [v] * n for v in (None, [], -1))
    lists = {c.name: [] for c in VIDEO.columns("sequence")}
    emptied = {"taste": None, "look": nulls, "tags": empties, "words": empties, "length": default} | lists
    assert rows_of(table.refresh().scan().to_arrow()) == plain(rows, emptied, first)
    assert audit(spark.table(f"lake.{VIDEO.table()}"), VIDEO).passed
    assert column_retention.run(no_spark, settings, VIDEO, now=on(first, 1)).did == ()


@pytest.mark.spark
@pytest.mark.parametrize("conflict", ["split", pytest.param("latest", marks=pytest.mark.exhaustive)])
def test_verify_knows_what_was_emptied(spark: Any, settings: Settings, write: Any, conflict: str) -> None:
    spec = with_retention(
        "feed", {"seen": {"columns": ["history", "score", "price"], "after": "2d"}}, conflict=conflict
    )
    raw = raw_log(spec, users=3, fanout=2, history=6)
    folder = write(raw)
    ingest(spark, settings, spec, [folder])
    first = days_of(reference_requests(raw, spec))[0]
    column_retention.run(lambda: spark, settings, spec, now=on(first, 2))
    assert verify.run(spark, settings, spec, [folder]).ok
    if conflict == "latest":
        return
    table = open_catalog(settings).load_table(spec.table())
    rows = table.scan().to_arrow()
    at = [t.date() for t in rows["request_ts"].to_pylist()].index(first)
    scores = [7.5 if i == at else s for i, s in enumerate(rows["score"].to_pylist())]
    table.overwrite(rows.set_column(rows.schema.get_field_index("score"), "score", pa.array(scores, pa.float32())))
    report = verify.run(spark, settings, spec, [folder])
    assert not report.ok
    assert {c for d in report.differences for c in d.columns} == {"score"}


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        (["user_id"], "'user_id' is a key"),
        (["position"], "'position' is a candidate key"),
        (["click"], "'click' is a label"),
        (["history_item_id"], "name the sequence"),
        (["prise"], "Did you mean 'price'"),
        (["country", "score"], "'country' is in the group 'other' as well"),
        (["hour"], "'hour' is required"),
    ],
)
def test_what_cannot_be_emptied_is_refused(columns: list[str], says: str) -> None:
    groups = {"other": {"columns": ["country"], "after": "9d"}, "group": {"columns": columns, "after": "3d"}}
    with pytest.raises(SpecError, match=says):
        with_retention("feed", groups, request_features=FEATURES)
    with pytest.raises(SpecError, match="not partitioned by time"):
        with_retention("shop", {"group": {"columns": ["loyal"], "after": "3d"}})


FEATURES = {"country": "string", "score": "float", "hour": {"type": "int", "required": True}}
