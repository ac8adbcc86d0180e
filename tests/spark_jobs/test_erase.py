"""Erasure: users leave every table, tag and branch, the others stay as they were, and the proof can fail."""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.schema import Schema
from pyiceberg.types import LongType, NestedField

from lakehouse.catalog import local_path, open_catalog
from lakehouse.ids import ensure_ids
from lakehouse.ledger import Ledger, Member
from lakehouse.pending import ensure_pending
from lakehouse.sample import sample_as_table
from lakehouse.schema import arrow_schema
from lakehouse.settings import Settings
from lakehouse.spec import DatasetSpec
from lakehouse.tags import create_tag, list_tags, successor, tag_of
from lakehouse.upkeep.files import bare, referenced
from lakehouse.upkeep.traces import find_traces
from lakehouse.upkeep.wanted import Wanted
from spark_jobs import erase
from spark_jobs.erase_plan import plan
from spark_jobs.erase_users import read_users, users_of
from spark_jobs.errors import EraseError
from spark_jobs.quarantine import ensure_quarantine
from tests.spark_jobs.conftest import rows_of
from tests.spark_jobs.test_compact import in_order
from tests.spark_jobs.test_expire import Killed, die, lying
from tests.support.datasets import SPECS, raw_log, reference_requests, string_id, write_request_table

pytestmark = pytest.mark.spark
KEYS = ("user_id", "request_id")
STEPS = ["_ask", "delete_rows", "_clean_refs", "_rebuild", "squash", "clear", "prove", "write_report"]


def loaded(spark: Any, settings: Settings, name: str, spec: DatasetSpec | None = None) -> tuple[Any, list[Any]]:
    """A table of two batches with a tag on each, a quarantine, a ledger and a branch; and its users, as raw."""
    spec = spec or SPECS[name]
    raw, user = raw_log(spec, users=6, fanout=3, history=6), spec.keys.user_id.column
    users = sorted(set(raw[user].to_pylist()), key=str)
    catalog = open_catalog(settings)
    for tag, batch in (("v1", users[:3]), ("v2", users[3:])):
        part = raw.filter(pa.array([u in batch for u in raw[user].to_pylist()]))
        table = write_request_table(settings, spec, reference_requests(part, spec), files=1)
        create_tag(catalog, spec, settings, tag)
    quarantine = catalog.load_table(ensure_quarantine(catalog, spec, settings))
    hidden = {"reason": "bad_user", "batch_id": "b", "file": "a.parquet", "row": 9, "raw": json.dumps({user: users[0]})}
    bad = [hidden | {"row": i, "user_id": ids(u, spec), "raw": json.dumps({user: u})} for i, u in enumerate(users)]
    quarantine.append(pa.Table.from_pylist([*bad, hidden], schema=quarantine.schema().as_arrow()))
    snapshot = table.current_snapshot()
    Ledger(catalog, spec, settings).write("b", [Member("1:ab", "a.parquet", 7)], snapshot.snapshot_id, 0)
    spark.sql(f"ALTER TABLE lake.{spec.table()} CREATE BRANCH experiment")
    return table.refresh(), users


def ids(user: Any, spec: DatasetSpec) -> int:
    return string_id(user) if spec.keys.user_id.type == "string" else user


def of_others(table: Any, snapshot_id: int | None, ids: set[int]) -> list[dict[str, Any]]:
    rows = table.scan(snapshot_id=snapshot_id).to_arrow()
    return rows_of(rows.filter([u not in ids for u in rows["user_id"].to_pylist()]))


@pytest.mark.parametrize("name", [pytest.param("feed", marks=pytest.mark.exhaustive), "shop"])
def test_users_leave_every_place_and_the_others_stay(spark: Any, settings: Settings, name: str) -> None:
    spec = SPECS[name]
    table, users = loaded(spark, settings, name)
    victims = users_of([str(u) for u in (users[0], users[-1])], spec)
    catalog = open_catalog(settings)
    sample = sample_as_table(catalog, spec, settings, "tiny", 0.99)
    old = {t: tag_of(catalog, spec, settings, t).snapshot_of(spec.table()) for t in ("v1", "v2")}
    others = {s: of_others(table.refresh(), s, set(victims.ids)) for s in (None, *old.values())}
    with pytest.raises(EraseError, match=r"tag 'v1'.*say --yes"):
        erase.run(spark, settings, spec, victims)
    assert len(table.refresh().metadata.refs) == 4
    planned = plan(settings, spec, victims)
    assert {(h.ref, h.kind) for h in planned} == {
        ("main", "branch"),
        ("experiment", "branch"),
        ("v1", "tag"),
        ("v2", "tag"),
    }
    report, text = erase.run(spark, settings, spec, victims, yes=True)
    assert plan(settings, spec, victims) == ()
    assert {h.table: h.rows for h in planned if h.ref == "main"} == {t.table: t.rows for t in report.tables if t.rows}
    table.refresh()
    new = {t: tag_of(catalog, spec, settings, t).snapshot_of(spec.table()) for t in ("v1", "v2")}
    assert rows_of(table.scan().to_arrow()) == others[None]
    for tag, snapshot in new.items():
        assert snapshot != old[tag]
        assert successor(table, old[tag]) == snapshot
        assert rows_of(table.scan(snapshot_id=snapshot).to_arrow()) == others[old[tag]]
    assert set(table.metadata.refs) == {"main", "v1", "v2"}
    assert {s.snapshot_id for s in table.metadata.snapshots} == {r.snapshot_id for r in table.metadata.refs.values()}
    for kind in ("quarantine", "requests"):
        held = catalog.load_table(spec.table(kind)).scan().to_arrow()["user_id"].to_pylist()
        assert held
        assert not victims.ids & set(held)
    tiny = catalog.load_table(sample.table).scan().to_arrow()["user_id"].to_pylist()
    assert not victims.ids & set(tiny)
    assert report.proved
    assert report.tags_rebuilt == ("v1", "v2")
    assert report.branches_dropped == ("experiment",)
    assert {t.table: t.rows for t in report.tables}[spec.table("quarantine")] == 3
    assert report.raw_logs == ("a.parquet",)
    assert "no value, no bound and no history" in text.read_text()
    data = json.loads(text.with_suffix(".json").read_text())
    assert data["proved"] is True
    assert not any(str(u) in text.read_text() for u in victims.texts if not u.lstrip("-").isdigit())
    assert {bare(p) for p in lying(table)} == referenced(table)
    assert in_order(table)


def test_killed_at_every_step_and_run_again(spark: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The deaths follow each other on one table: each run finds what the one before it left."""
    spec = SPECS["feed"]
    table, users = loaded(spark, settings, "feed")
    victims = users_of([str(users[0])], spec)
    kept = of_others(table, None, set(victims.ids))
    for step in STEPS:
        with monkeypatch.context() as patch:
            patch.setattr(erase, step, die)
            with pytest.raises(Killed):
                erase.run(spark, settings, spec, victims, yes=True)
    report, _ = erase.run(spark, settings, spec, victims, yes=True)
    assert report.proved
    assert rows_of(table.refresh().scan().to_arrow()) == kept
    assert [s.name for s in list_tags(open_catalog(settings), spec, settings)] == ["v1", "v2"]
    settings = settings.model_copy(update={"maintenance": settings.maintenance.model_copy(update={"orphan_hours": 0})})
    erase.run(spark, settings, spec, victims, yes=True)
    assert {bare(p) for p in lying(table.refresh())} == referenced(table)


def test_tags_are_dropped_where_asked_and_strays_are_removed(spark: Any, settings: Settings) -> None:
    spec = SPECS["feed"]
    table, users = loaded(spark, settings, "feed")
    stray = local_path(table.location()) / "data" / "stray.parquet"  # what a killed job left
    pq.write_table(pa.table({"user_id": pa.array([users[0]], pa.int64())}), stray)
    harmless = stray.with_name("harmless.parquet")
    pq.write_table(pa.table({"user_id": pa.array([users[3]], pa.int64())}), harmless)
    report, _ = erase.run(spark, settings, spec, users_of([str(users[0])], spec), yes=True, tags="drop")
    assert set(report.tags_dropped) == {"v1", "v2"}
    assert set(table.refresh().metadata.refs) == {"main"}
    assert not stray.exists()
    assert harmless.exists()


def test_what_cannot_be_removed_fails_the_proof_by_name(spark: Any, settings: Settings) -> None:
    """No pseudonym hides a request or a history; what other users have too, and short lists, are no evidence."""
    spec, victim, long, short = SPECS["feed"], 1, [*range(100, 112)], [7, 7, 7]
    rows = reference_requests(raw_log(spec, users=2, fanout=3), spec).to_pylist()
    for row in rows:
        row["history_item_id"] = long if row["user_id"] == victim else short
        row["history_action"], row["history_ts"] = [1] * 12, []
    mine = [row["request_id"] for row in rows if row["user_id"] == victim]
    rows[-1]["request_id"] = shared = mine[0]
    table = write_request_table(settings, spec, pa.Table.from_pylist(rows, schema=arrow_schema(spec)), files=1)
    Ledger(open_catalog(settings), spec, settings)
    stays = local_path(table.location()) / "data" / "stays.parquet"
    lists = {"history_item_id": [long, short], "history_action": [[1] * 12] * 2}
    pq.write_table(pa.table({"request_id": [mine[1], shared], **lists}), stays)
    os.utime(stays, (time.time() + 3600,) * 2)  # as if somebody were writing it now
    victims = users_of([str(victim)], spec)
    with pytest.raises(EraseError, match=r"found in 3 places, such as \S*stays\.parquet \(bounds of request_id"):
        erase.run(spark, settings, spec, victims, yes=True)
    report = json.loads((settings.home / "reports" / f"erase-feed-{victims.digest}.json").read_text())
    assert {t["what"]: t["count"] for t in report["traces"]} == {
        "bounds of request_id in a footer": 1,
        "values of request_id": 1,
        "histories in history_item_id": 1,
    }
    (kept,) = (settings.home / "reports").glob("*.sought")
    assert kept.stat().st_mode & 0o777 == 0o600
    os.utime(stays, (0, 0))
    again, _ = erase.run(spark, settings, spec, victims, yes=True)  # it knows from the first run what to look for
    assert (again.proved, stays.exists(), kept.exists()) == (True, False, False)
    assert (again.requests, again.shared_requests, again.histories, again.shared_histories) == (2, 1, 1, 1)


@pytest.mark.exhaustive
def test_rows_that_were_deleted_by_position_are_not_left_in_their_files(spark: Any, settings: Settings) -> None:
    """As a late merge leaves them: of one user a request, of the other every one, in a set and in the table."""
    spec = SPECS["feed"].model_copy(update={"partition": SPECS["shop"].partition})
    table, users = loaded(spark, settings, "feed", spec)
    name = f"lake.{spec.table()}"
    spark.sql(f"ALTER TABLE {name} SET TBLPROPERTIES ('write.delete.mode' = 'merge-on-read')")
    one = min(r for u, r in zip(*(table.scan().to_arrow()[k].to_pylist() for k in KEYS), strict=True) if u == users[0])
    spark.sql(f"DELETE FROM {name} WHERE user_id = {users[1]} OR (user_id = {users[0]} AND request_id = {one})")
    create_tag(open_catalog(settings), spec, settings, "v3")
    assert any(t.delete_files for t in table.refresh().scan().plan_files())
    victims = users_of([str(u) for u in users[:2]], spec)
    others = of_others(table, None, set(victims.ids))
    report, _ = erase.run(spark, settings, spec, victims, yes=True)
    assert (report.proved, set(report.tags_rebuilt)) == (True, {"v1", "v2", "v3"})
    assert rows_of(table.refresh().scan().to_arrow()) == others
    assert table.properties["write.delete.mode"] == "merge-on-read"
    assert in_order(table)


def test_every_table_of_the_dataset_is_erased_by_its_columns(spark: Any, settings: Settings) -> None:
    """Waiting labels, translations of ids, a raw row without a user, and a table of somebody's that has requests."""
    spec, catalog = SPECS["shop"], open_catalog(settings)
    table, users = loaded(spark, settings, "shop")
    rows = table.scan().to_arrow().select(["user_id", "request_id", "user_id_raw", "request_id_raw"]).to_pylist()
    victim = users[0]
    translated = {("user_id", r["user_id"], r["user_id_raw"]) for r in rows}
    translated |= {("request_id", r["request_id"], r["request_id_raw"]) for r in rows}
    append(
        ensure_ids(catalog, spec, settings), [dict(zip(("kind", "hash", "string"), t, strict=True)) for t in translated]
    )
    now, keys = datetime.now(UTC), [{k: r[k] for k in KEYS} for r in rows]
    waits = {
        "item_id": 1,
        "label": "ordered",
        "value": "1",
        "time": now,
        "batch_id": "b",
        "file": "f",
        "waiting_since": now,
    }
    append(ensure_pending(catalog, spec, settings), [k | waits | {"row": i} for i, k in enumerate(keys)])
    notes = catalog.create_table(f"{spec.namespace}.shop_notes", Schema(NestedField(1, "request_id", LongType())))
    append(notes, [{"request_id": r["request_id"]} for r in rows])
    held = catalog.load_table(spec.table("quarantine"))
    bad = {"reason": "bad_user", "batch_id": "b", "file": "a.parquet"}
    append(
        held, [bad | {"row": 100 + i, "raw": json.dumps({"visit": r["request_id_raw"]})} for i, r in enumerate(rows)]
    )
    theirs = sum(r["user_id_raw"] == victim for r in rows)
    report, _ = erase.run(spark, settings, spec, users_of([victim], spec), yes=True)
    assert report.proved
    lost = {t.table.rpartition("_")[2]: t.rows for t in report.tables}
    assert lost["ids"] == theirs + 1
    assert lost["labels"] == lost["notes"] == lost["requests"] == theirs
    assert lost["quarantine"] == theirs + 2
    assert len(notes.refresh().scan().to_arrow()) == len(rows) - theirs


def append(table: Any, rows: list[dict[str, Any]]) -> None:
    table.append(pa.Table.from_pylist(rows, schema=table.schema().as_arrow()))


def test_an_ingest_that_runs_is_not_disturbed(spark: Any, settings: Settings) -> None:
    spec = SPECS["feed"]
    loaded(spark, settings, "feed")
    spark.sql(f"ALTER TABLE lake.{spec.table()} CREATE BRANCH audit_elsewhere_1_running")
    with pytest.raises(EraseError, match="an ingest is running"):
        erase.run(spark, settings, spec, users_of(["1"], spec), yes=True)


def test_the_proof_finds_a_value_a_bound_a_raw_row_and_a_name(spark: Any, settings: Settings, tmp_path: Path) -> None:
    spec = SPECS["shop"]
    table, users = loaded(spark, settings, "shop")
    name = users[0]
    wanted = Wanted.of(spec, frozenset({string_id(name)}), frozenset({name}))
    (tmp_path / "page.html").write_text(f"<p>such as {name}</p>")
    files = [str(p) for p in local_path(settings.catalog.warehouse).rglob("*") if p.is_file()]
    found = find_traces(table.io, [*files, str(tmp_path / "page.html")], wanted)
    what = {t.what for t in found.traces}
    assert what == {"values of user_id", "values of user_id_raw", "raw rows", "text"} | {
        f"bounds of {name} in a {place}" for name in ("user_id", "user_id_raw") for place in ("manifest", "footer")
    }
    nobody = Wanted.of(spec, frozenset({1}), frozenset({"nobody"}))
    assert find_traces(table.io, files, nobody).traces == ()


def test_lists_of_users(tmp_path: Path) -> None:
    feed, shop = SPECS["feed"], SPECS["shop"]
    listed = tmp_path / "users.txt"
    listed.write_text("7\n\n-8\n")
    assert read_users(listed, feed).ids == {7, -8}
    assert read_users(listed, shop).ids == {string_id("7"), string_id("-8")}
    pq.write_table(pa.table({"u": [7, 7, None]}), tmp_path / "users.parquet")
    assert read_users(tmp_path / "users.parquet", feed).ids == {7}
    with pytest.raises(EraseError, match="line 1 of the list is no user id of feed"):
        users_of(["seven"], feed)
    with pytest.raises(EraseError, match="names no user"):
        users_of([""], feed)
    with pytest.raises(EraseError, match="cannot read the users"):
        read_users(tmp_path / "nothing", feed)
