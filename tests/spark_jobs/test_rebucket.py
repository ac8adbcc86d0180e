"""Another layout: the same rows in main, in every tag and branch; whole or not at all, and back again."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.exceptions import CommitFailedException

from lakehouse import catalog as catalogs
from lakehouse.catalog import load_table, local_path, open_catalog, table_names
from lakehouse.errors import TableMissingError
from lakehouse.ledger import BATCH, FILES, Ledger
from lakehouse.sample import sample_as_table
from lakehouse.schema import open_request_table, partition_spec, table_spec
from lakehouse.settings import Settings
from lakehouse.spec import DatasetSpec, Partition
from lakehouse.tags import create_tag, drop_tag, list_tags, reader_lease, tag_of
from lakehouse.tags.sets import snapshot_or_current
from lakehouse.upkeep import swap as swaps
from lakehouse.upkeep.files import bare, referenced
from spark_jobs import backfill, erase, rebucket, rebucket_states
from spark_jobs.erase_users import users_of
from spark_jobs.errors import RebucketError
from spark_jobs.ingest import run as ingest
from spark_jobs.rebucket_plan import plan
from spark_jobs.views import apply
from tests.spark_jobs.conftest import rows_of
from tests.spark_jobs.test_compact import in_order
from tests.spark_jobs.test_expire import Killed, die, lying
from tests.support.datasets import SPECS, raw_log, reference_requests, write_request_table

pytestmark = pytest.mark.spark
NEW = {
    "feed": Partition(grain="none", buckets=3),
    "shop": Partition(grain="none", buckets=5),
    "video": Partition(grain="day", buckets=1),
}


def loaded(settings: Settings, name: str) -> Any:
    """A table of two tagged batches and rows that no tag has; the first day is gone from main."""
    spec, catalog = SPECS[name], open_catalog(settings)
    rows = reference_requests(raw_log(spec, users=6, fanout=3, history=6), spec)
    third = len(rows) // 3
    for i, tag in enumerate(("v1", "v2", None)):
        table = write_request_table(settings, spec, rows.slice(i * third, third), files=1)
        if tag is not None:
            create_tag(catalog, spec, settings, tag)
    return table


def states(settings: Settings, spec: DatasetSpec) -> dict[str, Any]:
    """Rows of main, and of every tag, by name."""
    catalog = open_catalog(settings)
    table = open_request_table(catalog, spec, settings)
    tags = {s.name: s.snapshot_of(spec.table()) for s in list_tags(catalog, spec, settings)}
    return {name: rows_of(table.scan(snapshot_id=s).to_arrow()) for name, s in {"main": None, **tags}.items()}


def names(settings: Settings, spec: DatasetSpec) -> set[str]:
    """The dataset's tables."""
    return set(table_names(open_catalog(settings), spec.namespace))


@pytest.mark.parametrize("name", ["shop", pytest.param("video", marks=pytest.mark.exhaustive)])
def test_every_state_comes_over_and_goes_back(spark: Any, settings: Settings, name: str) -> None:
    spec, catalog = SPECS[name], open_catalog(settings)
    old = loaded(settings, name)
    old.delete(f"user_id == {old.scan().to_arrow()['user_id'][0].as_py()}")
    spark.sql(f"ALTER TABLE lake.{spec.table()} CREATE BRANCH experiment")
    rows, sets = states(settings, spec), {s.name: s for s in list_tags(catalog, spec, settings)}
    planned = plan(settings, spec, NEW[name])
    assert [(n, k) for n, k, _ in planned.states] == [
        ("v1", "tag"),
        ("v2", "tag"),
        ("experiment", "branch"),
        ("main", "branch"),
    ]
    assert names(settings, spec) == {spec.table()}
    report = rebucket.run(spark, settings, spec, NEW[name])
    new = open_request_table(catalog, spec, settings)
    assert states(settings, spec) == rows
    assert new.spec() == partition_spec(table_spec(new), new.schema())
    assert table_spec(new) == spec.model_copy(update={"partition": NEW[name]})
    assert new.metadata.table_uuid != old.metadata.table_uuid
    assert in_order(new)
    assert rows_of(new.scan(snapshot_id=new.metadata.refs["experiment"].snapshot_id).to_arrow()) == rows["main"]
    for tag, before, now in report.snapshots:
        assert new.metadata.refs[tag].snapshot_id == now
        with pytest.raises(TableMissingError, match=f"Snapshot {now} holds what is left of it"):
            snapshot_or_current(new, before)
    assert {s.name: s.created for s in list_tags(catalog, spec, settings)} == {n: s.created for n, s in sets.items()}
    assert report.lost == planned.lost == 1  # the rows before the delete, which no tag has
    assert report.after.files <= planned.partitions
    kept = catalog.load_table(report.kept)
    assert kept.metadata.table_uuid == old.metadata.table_uuid

    rebucket.back(no_session, settings, spec)
    assert states(settings, spec) == rows
    assert open_request_table(catalog, spec, settings).metadata.table_uuid == old.metadata.table_uuid
    rebucket.back(no_session, settings, spec)
    assert states(settings, spec) == rows
    assert open_request_table(catalog, spec, settings).metadata.table_uuid == new.metadata.table_uuid
    folder = local_path(kept.location())
    assert rebucket.drop_kept(settings, spec)[0] == [report.kept]
    assert [p for p in folder.rglob("*") if p.is_file()] == []
    assert names(settings, spec) == {spec.table(), spec.table("ledger")}


def no_session() -> Any:
    raise AssertionError("nothing has changed: nothing has to be compared")


@pytest.mark.exhaustive
def test_sets_share_what_is_equal_in_them_and_keep_their_schema(spark: Any, settings: Settings, tmp_path: Any) -> None:
    spec, catalog = SPECS["feed"], open_catalog(settings)
    table = loaded(settings, "feed")
    keys = table.scan(selected_fields=("user_id", "request_id")).to_arrow()
    pq.write_table(keys.append_column("slate", pa.array([3] * len(keys), pa.int64())), tmp_path / "slate.parquet")
    backfill.run(spark, settings, spec, "slate", str(tmp_path / "slate.parquet"))
    create_tag(catalog, spec, settings, "v3")
    rows = states(settings, spec)
    spec = table_spec(table.refresh())
    report = rebucket.run(spark, settings, spec, Partition(grain="day", buckets=3))
    assert states(settings, spec) == rows
    new = open_request_table(catalog, spec, settings)
    assert new.schema() == table.schema()
    files = {
        tag: {t.file.file_path for t in new.scan(snapshot_id=now).plan_files()} for tag, _, now in report.snapshots
    }
    assert files["v1"] & files["v2"]
    assert files["v3"] == files["main"]
    pinned = tag_of(catalog, spec, settings, "v1").tables[spec.table()]
    assert "slate" not in [f.name for f in new.schemas()[pinned.schema_id].fields]
    assert pinned.uuid == str(new.metadata.table_uuid)


STEPS = [
    (rebucket, "begin"),
    (rebucket, "order_writes"),
    (rebucket_states, "checksums"),
    (rebucket_states, "_compare"),
    (rebucket_states, "_prove_order"),
    (rebucket_states, "_name"),
    (rebucket, "_drop_refs"),
    (rebucket, "_finish"),
    (rebucket, "swap"),
    (swaps, "update"),
]


def test_killed_at_every_step_and_run_again(spark: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The deaths follow each other: each run finds what the one before it left, and the name's table stays whole."""
    spec = SPECS["feed"]
    table = loaded(settings, "feed")
    rows = states(settings, spec)
    for module, step in STEPS:
        with monkeypatch.context() as patch:
            patch.setattr(module, step, die)
            with pytest.raises(Killed):
                rebucket.run(spark, settings, spec, NEW["feed"])
        assert (
            open_request_table(open_catalog(settings), spec, settings).metadata.table_uuid == table.metadata.table_uuid
        )
        assert states(settings, spec) == rows
    report = rebucket.run(spark, settings, spec, NEW["feed"])
    assert report.written == 0  # the run that died at the swap had written, read back and named everything
    assert states(settings, spec) == rows
    with monkeypatch.context() as patch:
        patch.setattr(swaps, "remove", die)
        with pytest.raises(Killed):
            rebucket.drop_kept(settings, spec)
    rebucket.drop_kept(settings, spec)
    new = open_request_table(open_catalog(settings), spec, settings)
    assert names(settings, spec) == {spec.table(), spec.table("ledger")}
    assert {n for n, _, _ in report.snapshots} == {"v1", "v2", "main"}
    live, there = referenced(new), {bare(p) for p in lying(new)}
    assert live <= there  # what the dead have written stays until `orphans` finds it a day old


@pytest.mark.exhaustive
def test_what_is_committed_meanwhile_is_carried_over(
    spark: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, catalog = SPECS["feed"], open_catalog(settings)
    table = loaded(settings, "feed")
    late = reference_requests(raw_log(spec, users=2, seed=9), spec).cast(table.schema().as_arrow())
    real, times = rebucket.swap, []

    def busy(*given: Any) -> None:
        if not times:
            mine = catalog.load_table(spec.table())
            mine.append(late, snapshot_properties={BATCH: "late", FILES: '[["1:ab","late.parquet",7]]'})
            drop_tag(catalog, spec, settings, "v1")
        times.append(1)
        real(*given)

    monkeypatch.setattr(rebucket, "swap", busy)
    rebucket.run(spark, settings, spec, NEW["feed"])
    after = states(settings, spec)
    assert set(after) == {"main", "v2"}
    assert len(after["main"]) == len(table.scan().to_arrow()) + len(late)
    assert len(times) == 2
    assert Ledger(catalog, spec, settings).batches() == {"late": {"1:ab"}}  # no snapshot of the new table has it

    rebucket.drop_kept(settings, spec)
    monkeypatch.setattr(rebucket, "swap", moved)
    spec = table_spec(open_request_table(catalog, spec, settings))
    with pytest.raises(RebucketError, match="changed 5 times"):
        rebucket.run(spark, settings, spec, Partition(grain="day", buckets=1))


def moved(*_: Any) -> None:
    raise CommitFailedException


@pytest.mark.exhaustive
def test_views_and_ingest_go_on_after_it(spark: Any, settings: Settings, write: Any) -> None:
    spec, catalog = SPECS["feed"], open_catalog(settings)
    raw = raw_log(spec, users=4, fanout=3, history=6).sort_by("uid")
    half = raw["uid"].to_pylist().index(raw["uid"][len(raw) // 2].as_py())
    ingest(spark, settings, spec, [write(raw.slice(0, half), "first")])
    apply(spark, settings, spec)
    rebucket.run(spark, settings, spec, NEW["feed"])
    assert spark.table("lake.reqlake_spark.feed_impressions").count() == half
    later = table_spec(open_request_table(catalog, spec, settings))
    assert ingest(spark, settings, later, [write(raw.slice(0, half), "first")]).skipped
    ingest(spark, settings, later, [write(raw.slice(half), "second")])
    assert states(settings, spec)["main"] == rows_of(reference_requests(raw, spec))
    with pytest.raises(RebucketError, match=r"main of .* no longer holds what .*_before holds"):
        rebucket.back(lambda: spark, settings, spec)


def test_an_erasure_reaches_the_table_of_before_and_one_can_go_back(spark: Any, settings: Settings) -> None:
    spec, catalog = SPECS["feed"], open_catalog(settings)
    table = loaded(settings, "feed")
    victim = min(table.scan().to_arrow()["user_id"].to_pylist())
    sample = sample_as_table(catalog, spec, settings, "tiny", 0.99)
    rebucket.run(spark, settings, spec, NEW["feed"])
    later = table_spec(open_request_table(catalog, spec, settings))
    assert erase.run(spark, settings, later, users_of([str(victim)], later), yes=True)[0].proved
    rows = states(settings, spec)
    for name in (f"{spec.table()}_before", sample.table):  # the sample was taken of the table of before
        assert victim not in catalog.load_table(name).scan().to_arrow()["user_id"].to_pylist()
    create_tag(catalog, spec, settings, "since")
    with pytest.raises(RebucketError, match=r"only reqlake\.feed_requests has 'since'"):
        rebucket.back(lambda: spark, settings, spec)
    drop_tag(catalog, spec, settings, "since")
    rebucket.back(lambda: spark, settings, spec)
    assert states(settings, spec) == rows
    assert victim not in {r["user_id"] for state in rows.values() for r in state}
    assert open_request_table(catalog, spec, settings).metadata.table_uuid == table.metadata.table_uuid


def test_refused_by_name(spark: Any, settings: Settings) -> None:
    spec = SPECS["feed"]
    table = loaded(settings, "feed")
    with pytest.raises(RebucketError, match=r"laid out as \{grain: day, buckets: 2\} already"):
        plan(settings, spec, spec.partition)
    with pytest.raises(RebucketError, match="no table of before"):
        rebucket.back(no_session, settings, spec)
    with (
        reader_lease(table, "night", settings, hours=1),
        pytest.raises(RebucketError, match="the reader 'night' holds a snapshot"),
    ):
        rebucket.run(spark, settings, spec, NEW["feed"])
    with reader_lease(table, "gone", settings, hours=-1):
        assert plan(settings, spec, NEW["feed"]).lost == 0
    spark.sql(f"ALTER TABLE lake.{spec.table()} CREATE BRANCH audit_elsewhere_1_running")
    with pytest.raises(RebucketError, match="an ingest is running"):
        rebucket.run(spark, settings, spec, NEW["feed"])
    spark.sql(f"ALTER TABLE lake.{spec.table()} DROP BRANCH audit_elsewhere_1_running")
    rebucket.run(spark, settings, spec, NEW["feed"])
    with pytest.raises(RebucketError, match=r"feed_requests_before, the table of before .* is there still"):
        plan(settings, spec, spec.partition)


def test_a_proof_that_fails_swaps_nothing(spark: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = SPECS["feed"]
    table = loaded(settings, "feed")
    with monkeypatch.context() as patch:
        patch.setattr(rebucket_states, "_condition", lambda *_: "hour < 12")  # half of the rows
        patch.setattr(rebucket_states, "GROUP_PARTITIONS", 1)
        with pytest.raises(RebucketError, match=r"v1 came back other than it was written .*rows"):
            rebucket.run(spark, settings, spec, Partition(grain="day", buckets=1))
    rows = states(settings, spec)
    with monkeypatch.context() as patch:
        patch.setattr(rebucket_states, "in_order", lambda *_: False)
        with pytest.raises(RebucketError, match="new files are not in order"):
            rebucket.run(spark, settings, spec, Partition(grain="day", buckets=1))
    assert open_request_table(open_catalog(settings), spec, settings).metadata.table_uuid == table.metadata.table_uuid
    rebucket.run(spark, settings, spec, Partition(grain="day", buckets=1))
    assert states(settings, spec) == rows


def test_a_catalog_that_only_renames(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """What REST, Glue and Hive can do: three renames, undone where a writer came between, mended where one died."""
    spec, catalog = SPECS["feed"], open_catalog(settings)
    table = loaded(settings, "feed")
    name, kept = spec.table(), f"{spec.table()}_before"
    other = catalog.create_table(f"{name}_anew", table.schema())
    steps = [(name, f"{name}_aside", table), (f"{name}_anew", name, other), (f"{name}_aside", kept, table)]
    renames, rename = [], catalog.rename_table

    def dies(*given: Any) -> Any:
        renames.append(given)
        if len(renames) == dead:
            raise Killed
        return rename(*given)

    monkeypatch.setattr(catalogs, "SWAP_PAUSE", 0)
    for dead, whose in ((1, table), (2, table), (3, other)):
        with monkeypatch.context() as patch:
            renames.clear()
            patch.setattr(catalog, "rename_table", dies)
            with pytest.raises(Killed):
                swaps._one_by_one(catalog, steps)
        if dead == 2:
            with pytest.raises(TableMissingError, match=f"no table {name}"):
                load_table(catalog, name, settings)
            monkeypatch.setattr(catalogs.time, "sleep", lambda _: rename(f"{name}_aside", name))
            assert load_table(catalog, name, settings).name() == table.name()  # while the renames go on
            rename(name, f"{name}_aside")
        assert rebucket.mend_name(settings, name) == (dead > 1)
        assert catalog.load_table(name).metadata.table_uuid == whose.metadata.table_uuid
    rename(name, f"{name}_anew")
    rename(kept, name)
    stale = catalog.load_table(name)
    create_tag(catalog, spec, settings, "v3")
    with pytest.raises(CommitFailedException):
        swaps._one_by_one(catalog, [(n, to, stale if t is table else t) for n, to, t in steps])
    assert {n for n in names(settings, spec) if "requests" in n} == {name, f"{name}_anew"}
