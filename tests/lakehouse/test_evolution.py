"""A spec and its table changed together: steps in the table's terms, refusals with their reason, one commit."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyiceberg.table import Table

from feature_reader import Reader
from lakehouse.catalog import open_catalog
from lakehouse.errors import EvolutionError, LeaseError
from lakehouse.evolution import apply, commit, compare, plan
from lakehouse.lease import maintenance_lease
from lakehouse.pending import ensure_pending
from lakehouse.schema import ensure_request_table, table_spec
from lakehouse.settings import Settings
from lakehouse.spec import DatasetSpec, dump_yaml, parse_spec
from lakehouse.sql import query
from reqlake.cli.app import main
from tests.support.datasets import SPECS, raw_log, reference_requests, write_request_table

FEED = SPECS["feed"]
Change = dict[str, Any]


def changed(spec: DatasetSpec, change: Change) -> DatasetSpec:
    """The spec with values put at dotted paths; None takes the entry away."""
    data = json.loads(spec.to_json())
    for path, value in change.items():
        *parents, last = path.split(".")
        inner = data
        for parent in parents:
            inner = inner.setdefault(parent, {})
        if value is None:
            del inner[last]
        else:
            inner[last] = value
    return parse_spec(data)


EVERYTHING: Change = {
    "request_features.device": "string",
    "request_features.speed": {"type": "float", "required": True, "default": 1.5},
    "request_features.score": None,
    "request_features.affinity": {"type": "float", "column": "score", "renamed_from": "score"},
    "request_features.hour": {"type": "long", "range": [0, 24]},
    "request_features.country": None,
    "sequences.history.fields.action": {"type": "long", "range": [0, 5]},
    "sequences.history.fields.dwell": "float",
    "sequences.searched": {"fields": {"term": "string"}},
    "candidate_features.price": {"type": "double", "range": [0, 1000]},
    "candidate_features.stock": "int",
    "labels.like": "float",
}


@pytest.fixture
def feed(settings: Settings) -> Table:
    """The feed's table, with rows."""
    return write_request_table(settings, FEED, reference_requests(raw_log(FEED, users=4), FEED))


def evolve(table: Table, settings: Settings, spec: DatasetSpec) -> None:
    apply(open_catalog(settings), plan(table, spec), settings)
    table.refresh()


def rows(table: Table, snapshot_id: int | None = None) -> list[dict[str, Any]]:
    found = table.scan(snapshot_id=snapshot_id).to_arrow().to_pylist()
    return sorted(found, key=lambda r: (r["user_id"], r["request_id"]))


def test_each_kind_of_change_keeps_what_is_there_under_its_field_id(feed: Table, settings: Settings) -> None:
    before, old = rows(feed), feed.schema()
    first, files = feed.current_snapshot(), feed.inspect.files()["file_path"].to_pylist()
    spec = changed(FEED, EVERYTHING)
    found = plan(feed, spec)
    assert {(s.kind, s.column) for s in found.steps} == {
        *(("add", c) for c in ("device", "speed", "history_dwell", "searched_term", "stock", "like")),
        ("rename", "affinity"),
        *(("widen", c) for c in ("hour", "history_action", "price")),
        ("drop", "country"),
        ("rule", "hour"),  # its range
    }
    assert not found.refusals
    evolve(feed, settings, spec)

    assert [f.name for f in feed.schema().fields] == [c.name for c in spec.columns()]
    now = {f.name: f.field_id for f in feed.schema().fields}
    was = {f.name: f.field_id for f in old.fields}
    assert now["affinity"] == was["score"]
    assert all(now[name] == was[name] for name in ("hour", "history_action", "price", "item_id"))
    assert min(now[n] for n in ("device", "history_dwell", "stock", "like")) > max(was.values())
    assert feed.inspect.files()["file_path"].to_pylist() == files, "no data file was written"
    assert feed.current_snapshot().parent_snapshot_id == first.snapshot_id
    assert rows(feed, first.snapshot_id) == before, "a snapshot of before is read as it was"
    gone, new = {"score", "country"}, {"device": None, "history_dwell": None, "stock": None, "like": None}
    for row, then in zip(rows(feed), before, strict=True):
        assert row["affinity"] == then["score"]
        assert {k: v for k, v in row.items() if k in then} == {k: v for k, v in then.items() if k not in gone}
        assert new.items() <= row.items()
    assert plan(feed, spec).steps == ()
    assert not [k for k in feed.properties if k.startswith("write.") and ("country" in k or "score" in k)]
    assert table_spec(feed, old.schema_id) == FEED


def test_reader_and_query_see_both_sides_of_a_change(feed: Table, settings: Settings) -> None:
    old_schema, first = feed.schema().schema_id, feed.current_snapshot()
    wanted = next(iter(Reader(feed, shuffle=False, batch_requests=1000)))
    evolve(feed, settings, changed(FEED, EVERYTHING))
    later = next(iter(Reader(feed, shuffle=False, batch_requests=1000)))
    np.testing.assert_array_equal(later.request["affinity"], wanted.request["score"])
    np.testing.assert_array_equal(later.request["hour"], wanted.request["hour"])
    assert later.request["hour"].dtype == np.int64
    assert later.candidates["price"].dtype == np.float64
    np.testing.assert_array_equal(later.candidates["price"].astype(np.float32), wanted.candidates["price"])
    np.testing.assert_array_equal(later.request["history_action"].values, wanted.request["history_action"].values)
    assert set(later.request["speed"].tolist()) == {1.5}, "the default stands for rows of before"
    assert np.isnan(later.candidates["like"]).all()
    np.testing.assert_array_equal(later.request["history_dwell"].offsets, wanted.request["history_ts"].offsets)
    again = next(iter(Reader(feed, shuffle=False, batch_requests=1000, schema_id=old_schema)))
    np.testing.assert_array_equal(again.request["score"], wanted.request["score"])

    total = query(settings, "SELECT count(*) AS n, count(device) AS d, sum(hour) AS h FROM feed_impressions")
    assert total.to_pylist()[0]["n"] == len(wanted.candidates["item_id"])
    assert total.to_pylist()[0]["d"] == 0
    before = query(settings, f"SELECT count(score) AS n FROM feed_requests FOR VERSION AS OF {first.snapshot_id}")
    assert before.to_pylist() == [{"n": int((~np.isnan(wanted.request["score"])).sum())}]


def test_a_name_that_comes_again_is_another_column(feed: Table, settings: Settings) -> None:
    evolve(feed, settings, changed(FEED, {"request_features.country": None}))
    evolve(feed, settings, FEED)
    assert {r["country"] for r in rows(feed)} == {None}
    assert feed.schema().find_field("country").field_id > feed.schema().find_field("click").field_id
    evolve(feed, settings, back := changed(FEED, {"request_features.country": {"type": "string", "doc": "where"}}))
    assert feed.schema().find_field("country").doc == "where"
    assert table_spec(feed).hash == back.hash


VIDEO = SPECS["video"]
REFUSED: list[tuple[DatasetSpec, Change, str]] = [
    (FEED, {"candidate_features.category": {"type": "float"}}, "int → float: Iceberg widens"),
    (VIDEO, {"sequences.watched.fields.clip.type": "int"}, "long → int: it would narrow"),
    (VIDEO, {"request_features.taste": "vector<float, 8>"}, "another shape"),
    (VIDEO, {"request_features.device.type": "list<string>"}, "another shape"),
    (FEED, {"request_features.age": {"type": "int", "required": True}}, "rows that are there have no value"),
    (FEED, {"keys.item_id": {"column": "iid", "type": "string"}}, "stored rows are named by the keys"),
    (FEED, {"keys.position": "slot"}, "stored rows are named by the keys"),
    (FEED, {"conflict": "latest"}, "told apart and ranked by it"),
    (FEED, {"partition.buckets": 8}, "reqlake rebucket reqlake.feed_requests --buckets 8"),
    (FEED, {"partition.grain": "month"}, "--grain month"),
    (FEED, {"partition.columns": ["country"]}, "another name"),
    (FEED, {"sequences.history.order": "newest_first"}, "events lie oldest_first"),
    (FEED, {"sequences.history.time": None}, "time: ts → none"),
    (FEED, {"request_features.hour": None, "candidate_features.hour": "int"}, "one of request_features"),
    (FEED, {"request_features.new": {"type": "int", "renamed_from": "old"}}, "the table has none of that name"),
    (FEED, {"request_features.h": {"type": "int", "renamed_from": "hour"}}, "still declared"),
]


@pytest.mark.parametrize(("spec", "change", "why"), REFUSED, ids=[next(iter(c)) for _, c, _ in REFUSED])
def test_a_change_that_is_not_safe_is_refused_with_its_reason(spec: DatasetSpec, change: Change, why: str) -> None:
    told = [f"{r.place}: {r.why}" for r in compare(spec, changed(spec, change)).refusals]
    assert len(told) == 1, told
    assert why in told[0]


def test_nothing_of_a_refused_plan_is_done(feed: Table, settings: Settings) -> None:
    spec = changed(FEED, {"request_features.device": "string", "request_features.hour.type": "double"})
    with pytest.raises(EvolutionError, match=r"nothing was changed:\n  request_features.hour: int → double"):
        evolve(feed, settings, spec)
    assert table_spec(feed.refresh()).hash == FEED.hash
    assert "device" not in feed.schema().column_names


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"candidate_features.price.range": [0, 50]}, r"range \[0.0, 50.0\], which \d+ requests"),
        ({"sequences.history.fields.action.range": [0, 3]}, r"range \[0.0, 3.0\]"),
        ({"sequences.history.max_length": 3}, "max_length 3"),
        ({"request_features.country": {"type": "string", "required": True}}, "required, which"),
        ({"candidate_features.price.required": True}, "required, which"),
        ({"request_features.hour.range": [0, 23.5]}, None),
        ({"labels.click.required": True}, None),
        ({"request_features.country": {"type": "string", "required": True, "default": "?"}}, None),
    ],
)
def test_a_stricter_rule_is_held_against_the_rows_there(
    change: Change, why: str | None, feed: Table, settings: Settings
) -> None:
    if why is None:
        evolve(feed, settings, changed(FEED, change))
        return
    with pytest.raises(EvolutionError, match=why):
        evolve(feed, settings, changed(FEED, change))


def test_a_table_that_others_work_on_is_left_alone(feed: Table, settings: Settings) -> None:
    catalog, spec = open_catalog(settings), changed(FEED, {"request_features.device": "string"})
    planned = plan(feed, spec)
    with maintenance_lease(catalog, FEED, settings, "compact"), pytest.raises(LeaseError, match="compact runs"):
        apply(catalog, planned, settings)
    from lakehouse.audit_branches import name_branch

    with feed.manage_snapshots() as refs:
        refs.create_branch(feed.current_snapshot().snapshot_id, branch := name_branch("x"))
    with pytest.raises(EvolutionError, match=r"an ingest into reqlake\.feed_requests is at work"):
        apply(catalog, planned, settings)
    with feed.manage_snapshots() as refs:
        refs.remove_branch(branch)
    feed.append(feed.scan(limit=1).to_arrow())
    with pytest.raises(EvolutionError, match="was changed while this was planned"):
        apply(catalog, planned, settings)
    assert table_spec(feed.refresh()).hash == FEED.hash


def test_the_commands(
    feed: Table, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REQLAKE_HOME", str(settings.home))
    monkeypatch.setenv("COLUMNS", "140")
    file = tmp_path / "feed.yaml"
    file.write_text(dump_yaml(changed(FEED, EVERYTHING)))
    assert main(["spec", "plan", str(file)]) == 0
    said = capsys.readouterr().out
    for shown in ("rename", "affinity", "from score", "widen", "int → long", "country", "reqlake spec apply"):
        assert shown in said
    assert main(["spec", "apply", str(file)]) == 0
    assert "reqlake views apply reqlake.feed_requests" in capsys.readouterr().out
    assert main(["spec", "apply", str(file)]) == 0
    assert "nothing was changed" in capsys.readouterr().out
    file.write_text(dump_yaml(changed(FEED, {"partition.buckets": 8})))
    assert main(["spec", "plan", str(file)]) == 1
    assert "reqlake rebucket" in capsys.readouterr().out
    assert feed.refresh().schema().find_field("affinity")


def test_labels_that_wait_follow_the_rename_of_theirs(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    catalog, spec = open_catalog(settings), SPECS["video"]
    table = ensure_request_table(catalog, spec, settings)
    pending = ensure_pending(catalog, spec, settings)
    at = datetime(2026, 3, 1, tzinfo=UTC)
    one = {"user_id": 1, "request_id": 2, "item_id": 3, "value": "1", "time": at, "waiting_since": at, "file": "f"}
    rows = [one | {"label": name, "batch_id": "b", "row": i} for i, name in enumerate(("finished", "other"))]
    pending.append(pa.Table.from_pylist(rows, schema=pending.schema().as_arrow()))
    label = json.loads(spec.to_json())["labels"]["finished"] | {"column": "finished", "renamed_from": "finished"}
    renamed = changed(spec, {"labels.finished": None, "labels.done": label})

    def waiting() -> set[str]:
        return set(pending.refresh().scan().to_arrow()["label"].to_pylist())

    commit(plan(table, renamed), settings)
    assert (table_spec(table.refresh()).hash, waiting()) == (renamed.hash, {"finished", "other"}), (
        "died between the two"
    )
    monkeypatch.setenv("REQLAKE_HOME", str(settings.home))
    (tmp_path / "video.yaml").write_text(dump_yaml(renamed))
    for said in ("1 labels that wait for their impression have their new name", "nothing was changed"):
        assert main(["spec", "apply", str(tmp_path / "video.yaml")]) == 0
        assert said in capsys.readouterr().out
        assert waiting() == {"done", "other"}


def test_an_empty_table_follows_too(settings: Settings) -> None:
    table = ensure_request_table(open_catalog(settings), FEED, settings)
    evolve(table, settings, changed(FEED, EVERYTHING | {"candidate_features.price.range": [0, 1]}))
    assert "stock" in table.schema().column_names
