"""Batch scoring: the engine's scores of a pinned snapshot, once, whole or not at all, whoever else writes."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from lakehouse.catalog import open_catalog
from lakehouse.errors import FormatError, TableMissingError
from lakehouse.settings import Settings, load_settings
from serving.engine import Engine
from serving.scoring import score
from tests.support.datasets import SPECS, raw_log, reference_requests, write_request_table
from tests.training.batches import STILL, ranker, request_batch
from training.config import TrainConfig
from training.errors import CheckpointError
from training.export import write_export
from training.loop import train

ROOT = Path(__file__).parents[2]
SIZES = {"users": 8, "requests_per_user": 2, "fanout": 3, "history": 5}


def lake(settings: Settings, name: str = "video") -> Path:
    """A request table of 16 requests and an export of a model for it."""
    spec = SPECS[name]
    write_request_table(settings, spec, reference_requests(raw_log(spec, **SIZES), spec), row_group=4)
    model = ranker(name, request_batch(name, **SIZES))
    return settings.home / name / write_export(settings.home / name, model, spec, {})


def scores(settings: Settings, name: str = "video") -> pa.Table:
    """The scores table, in one order."""
    table = open_catalog(settings).load_table(SPECS[name].table("scores")).scan().to_arrow()
    return table.sort_by([("user_id", "ascending"), ("request_id", "ascending"), ("position", "ascending")])


@pytest.mark.parametrize("name", ["feed", "shop", "video"])
def test_the_table_holds_the_engines_scores(settings: Settings, name: str) -> None:
    export = lake(settings, name)
    report = score(export, settings, batch_requests=5)
    engine, batch = Engine.load(export), request_batch(name, **SIZES)
    found = scores(settings, name)
    assert (report.requests, report.rows) == (batch.R, batch.C) == (16, len(found))
    index = batch.request_index
    for column in ("user_id", "request_id", "request_ts"):
        expected = batch.request[column][index].tolist()
        assert found[column].cast(pa.int64()).to_pylist() == expected
    assert found["item_id"].to_pylist() == batch.candidates["item_id"].tolist()
    for task, expected in engine.score(batch).items():
        assert found[f"score_{task}"].to_pylist() == pytest.approx(expected.tolist(), rel=1e-5, abs=1e-5)
    assert set(found["model_version"].to_pylist()) == {export.name}


def test_a_second_run_writes_nothing_and_says_so(settings: Settings) -> None:
    export = lake(settings)
    first, second = score(export, settings), score(export, settings)
    assert not first.skipped
    assert second.skipped
    assert dataclasses.replace(second, skipped=False, seconds=first.seconds) == first
    assert len(scores(settings)) == first.rows
    assert len(open_catalog(settings).load_table(first.table).snapshots()) == 1


def test_another_filter_or_snapshot_is_another_job(settings: Settings) -> None:
    export = lake(settings)
    whole = score(export, settings)
    some = score(export, settings, row_filter="user_id > -4")
    assert 0 < some.rows < whole.rows
    assert len(scores(settings)) == whole.rows + some.rows
    spec = SPECS["video"]
    more = reference_requests(raw_log(spec, users=2, seed=7), spec)
    write_request_table(settings, spec, more, files=1)
    old = score(export, settings, snapshot_id=whole.snapshot_id)
    assert old.skipped
    assert score(export, settings).requests == whole.requests + len(more)


def test_what_fails_on_the_way_leaves_nothing(settings: Settings) -> None:
    export = lake(settings)

    def fail(done: int, _: int) -> None:
        if done > 4:
            raise RuntimeError("the power is gone")

    with pytest.raises(RuntimeError, match="the power is gone"):
        score(export, settings, batch_requests=4, progress=fail)
    assert len(scores(settings)) == 0
    assert not score(export, settings).skipped


@pytest.mark.slow
def test_a_killed_job_leaves_nothing(settings: Settings) -> None:
    export = lake(settings)
    code = "import sys; from tests.serving.test_scoring import die; die(*sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", code, str(settings.home), str(export)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == -signal.SIGKILL
    assert len(scores(settings)) == 0
    report = score(export, settings)
    assert not report.skipped
    assert len(scores(settings)) == report.rows


def die(home: str, export: str) -> None:
    """Score, and be killed at the last batch."""

    def kill(done: int, total: int) -> None:
        if done == total:
            os.kill(os.getpid(), signal.SIGKILL)

    score(Path(export), load_settings(home=home), batch_requests=4, progress=kill)


@pytest.mark.parametrize("other_filter", [None, "user_id > -4"], ids=["the same job", "another job"])
def test_a_job_that_another_overtakes_is_done_once(settings: Settings, other_filter: str | None) -> None:
    """A whole second job commits while the first is under way: the first loses its commit, looks again, and goes on."""
    export = lake(settings)
    overtaken = []

    def overtake(_: int, __: int) -> None:
        if not overtaken:
            overtaken.append(None)
            overtaken[0] = score(export, settings, row_filter=other_filter)

    first = score(export, settings, progress=overtake)
    assert not overtaken[0].skipped
    assert first.skipped is (other_filter is None)
    assert len(scores(settings)) == overtaken[0].rows + (0 if first.skipped else first.rows)


def test_a_model_with_other_tasks_adds_its_columns(settings: Settings) -> None:
    export = lake(settings)
    score(export, settings)
    config = TrainConfig(
        table="reqlake.video_requests",
        run=settings.home / "run",
        epochs=1,
        task_weights={"watch_seconds": 0.0},
        model=STILL,
    )
    run = train(config, settings)
    report = score(run.run, settings)
    assert 0 < report.requests < 16  # a run scores its test requests
    found = scores(settings)
    assert found["score_watch_seconds"].null_count == report.rows
    assert found["score_finished"].null_count == 0


def test_what_cannot_be_scored_is_named(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not an export"):
        score(tmp_path, settings)
    export = lake(settings)
    with pytest.raises(
        TableMissingError, match=r"no table reqlake\.vidoe_requests.*Did you mean 'reqlake\.video_requests'"
    ):
        score(export, settings, table="reqlake.vidoe_requests")
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(FormatError, match="names no format"):
        score(tmp_path, settings)
