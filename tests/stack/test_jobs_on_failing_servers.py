"""Jobs on servers that fail: each ends right, or with one clear error after which it ends right when run again."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from lakehouse.catalog import open_catalog
from lakehouse.errors import CatalogError
from lakehouse.settings import Settings, load_settings
from lakehouse.stack import control
from lakehouse.stack.config import merge_settings
from lakehouse.stack.state import Stack
from lakehouse.upkeep.files import owner, referenced, stored
from spark_jobs import compact, ingest, orphans
from spark_jobs.session import build_session
from tests.spark_jobs.conftest import embedded, published, rows_of
from tests.stack.upkeep_lake import RAW, SPEC, UPKEEP, VICTIM, prepare, run_in_one_jvm
from tests.support.cut_way import CutWay, cut_way
from tests.support.datasets import reference_requests
from tests.support.flaky_s3 import Fault, flaky_s3

pytestmark = [
    pytest.mark.integration,
    pytest.mark.spark,
    pytest.mark.filterwarnings("ignore:.*unclosed.*socket.*:pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:.*unclosed.*socket.*:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:.*socket.socket.*:pytest.PytestUnraisableExceptionWarning"),
]
UNTIL_DONE = """
import json, sys
from reqlake.cli import main
failed = []
for command in sys.argv[2:]:
    for attempt in range(9):
        code = main(command.split())
        if code == 0:
            break
        failed.append(command)
    else:
        sys.exit(f"reqlake {command}: exit code {code}, nine times")
open(sys.argv[1], "w").write(json.dumps(failed))
"""


@pytest.mark.exhaustive
@pytest.mark.timeout(580)
def test_one_in_twenty_of_all_calls_to_s3_fails(stack: Stack, tmp_path: Path) -> None:
    """Ingest, merge, compaction, backfill, a tag, expiry and an erasure."""
    draw, faults = random.Random(5), ("error", "reset", "lost", "late")
    with flaky_s3(stack.ports["s3"]) as way:

        def fault(_number: int, _key: str) -> Fault | None:
            return draw.choice(faults) if draw.random() < 0.05 else None

        way.fault, way.late_s = fault, 2
        sections = stack.settings(("postgres", "s3"))
        sections["catalog"] |= {"name": "failing", "warehouse": "s3://lake/failing"}
        sections["maintenance"] = {"keep_days": 0, "orphan_hours": 0}
        merge_settings(tmp_path / "reqlake.toml", sections | {"s3": sections["s3"] | {"endpoint": way.endpoint}})
        slate = prepare(tmp_path)
        done = run_in_one_jvm(tmp_path, str(tmp_path / "failed.json"), *UPKEEP, program=UNTIL_DONE)
        assert {"error", "reset", "lost", "late"} == set(way.faults)
    failed = json.loads((tmp_path / "failed.json").read_text())
    print(f"{len(way.faults)} of {way.requests} calls failed, {len(failed)} commands: {failed}")
    assert "Traceback" not in done.stderr, done.stderr

    lake = load_settings(home=tmp_path / "home", **sections)
    table = open_catalog(lake).load_table(SPEC.table())
    rows = reference_requests(RAW, SPEC).append_column("slate", slate)
    assert rows_of(table.scan().to_arrow()) == rows_of(rows.filter(pc.not_equal(rows["user_id"], VICTIM)))
    assert open_catalog(lake).load_table(SPEC.table("ledger")).scan().to_arrow().num_rows == 2
    assert json.loads(next((tmp_path / "home" / "reports").glob("erase-feed-*.json")).read_text())["proved"]
    orphans.run(lake, SPEC)
    assert {owner(f.path) for f in stored(table.io, table.location())} == referenced(table.refresh())


# ---- the catalog goes away -------------------------------------------------------------------------------------------


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[Stack]:
    """A Postgres of its own, to be stopped."""
    with control.running_stack(tmp_path / "stack", ("postgres",)) as stack:
        yield stack


@pytest.fixture
def way(postgres: Stack) -> Iterator[CutWay]:
    with cut_way(postgres.ports["postgres"]) as way:
        yield way


@pytest.fixture
def settings(postgres: Stack, way: CutWay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A lake whose catalog is that Postgres, behind a way that can be cut, and whose files lie on disk."""
    monkeypatch.chdir(tmp_path)
    small = embedded(tmp_path)
    uri = postgres.postgres_uri.replace(f":{postgres.ports['postgres']}/", f":{way.port}/")
    return small.model_copy(update={"catalog": small.catalog.model_copy(update={"uri": uri, "name": "lake"})})


@pytest.mark.parametrize(
    ("when", "job"),
    [
        ("after", "ingest"),
        pytest.param("before", "ingest", marks=pytest.mark.exhaustive),
        pytest.param("before", "compact", marks=pytest.mark.exhaustive),
        pytest.param("after", "compact", marks=pytest.mark.exhaustive),
    ],
)
def test_the_connection_is_cut_at_a_commit(
    when: Any, job: str, settings: Settings, way: CutWay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`after`: the catalog has committed, and the job does not hear of it. Nothing that it names may be cleaned up."""
    spark = build_session(settings)
    (tmp_path / "raw").mkdir()
    pq.write_table(RAW.slice(0, 30), tmp_path / "raw" / "first.parquet")
    ingest.run(spark, settings, SPEC, [tmp_path / "raw"])
    pq.write_table(RAW.slice(30), tmp_path / "raw" / "late.parquet")
    real = ingest.append_batch

    def arm(*given: Any) -> None:
        way.at, way.when = b"UPDATE iceberg_tables", when
        real(*given)

    if job == "ingest":
        with monkeypatch.context() as patch:
            patch.setattr(ingest, "append_batch", arm)
            with pytest.raises(CatalogError, match="cannot be reached"):
                ingest.run(spark, settings, SPEC, [tmp_path / "raw"])
    else:
        ingest.run(spark, settings, SPEC, [tmp_path / "raw"])
        say = {"Rewriting": lambda: setattr(way, "at", b"UPDATE iceberg_tables")}
        way.when = when
        with pytest.raises(CatalogError, match="cannot be reached"):
            compact.run(spark, settings, SPEC, every=True, progress=lambda t: say.get(t.split()[0], lambda: None)())
        compact.run(spark, settings, SPEC, every=True)
    assert way.cuts == 1
    ingest.run(spark, settings, SPEC, [tmp_path / "raw"])
    assert rows_of(published(settings, SPEC)) == rows_of(reference_requests(RAW, SPEC))
    assert len(published(settings, SPEC, "ledger")) == 2


@pytest.mark.parametrize("step", [pytest.param("append_batch", marks=pytest.mark.exhaustive), "publish"])
def test_the_catalog_stops_in_the_middle_of_a_batch(
    step: str, settings: Settings, postgres: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spark = build_session(settings)
    (tmp_path / "raw").mkdir()
    pq.write_table(RAW, tmp_path / "raw" / "all.parquet")
    real = getattr(ingest, step)

    def gone(*given: Any) -> None:
        control.down(postgres.folder)
        real(*given)

    with monkeypatch.context() as patch:
        patch.setattr(ingest, step, gone)
        with pytest.raises(CatalogError, match="cannot be reached"):
            ingest.run(spark, settings, SPEC, [tmp_path / "raw"])
    control.up(postgres.folder, ("postgres",), config=None)
    try:
        assert len(published(settings, SPEC)) == 0
        assert not ingest.run(spark, settings, SPEC, [tmp_path / "raw"]).skipped
        assert rows_of(published(settings, SPEC)) == rows_of(reference_requests(RAW, SPEC))
        assert set(open_catalog(settings).load_table(SPEC.table()).metadata.refs) == {"main"}
    finally:
        control.down(postgres.folder)
