"""Runs, checkpoints and exports that an earlier version wrote: this one opens them and scores the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from lakehouse.errors import FormatError
from serving.engine import TOLERANCE, Engine
from training.checkpoint import latest_checkpoint, load_checkpoint
from training.models import Ranker
from training.run import open_run

FORMATS = sorted((Path(__file__).parent / "checkpoint").glob("v*"))


@pytest.fixture(params=FORMATS, ids=lambda path: path.name)
def golden(request: pytest.FixtureRequest) -> Path:
    folder: Path = request.param
    return folder


def test_an_export_scores_as_it_did(golden: Path) -> None:
    (export,) = (golden / "exports").iterdir()
    expected = json.loads((golden / "expected.json").read_text(encoding="utf-8"))
    engine = Engine.load(export)
    assert engine.version == export.name
    for found, known in zip(engine.rank(expected["requests"]), expected["ranked"], strict=True):
        assert [c["item_id"] for c in found] == [c["item_id"] for c in known]
        for a, b in zip(found, known, strict=True):
            assert a["score"] == pytest.approx(b["score"], rel=TOLERANCE, abs=TOLERANCE)


def test_a_checkpoint_goes_into_model_and_optimizer(golden: Path) -> None:
    run, latest = open_run(golden), latest_checkpoint(golden)
    assert latest is not None
    model = Ranker(run.inputs, run.config.model)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    state = load_checkpoint(latest, model, optimizer)
    assert state.step == int(latest.name.removeprefix("step-")) == state.epochs[-1].step
    assert state.reader["epoch"] == len(state.epochs) == run.config.epochs
    assert state.best is not None
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert all(moments["step"] == state.step for moments in optimizer.state_dict()["state"].values())


@pytest.mark.parametrize(
    ("file", "what"),
    [("run.json", "run"), ("checkpoints/*/state.json", "checkpoint"), ("exports/*/config.json", "export")],
)
def test_a_newer_format_is_refused_by_name(tmp_path: Path, file: str, what: str) -> None:
    copy = tmp_path / "run"
    shutil.copytree(FORMATS[-1], copy)
    (path,) = copy.glob(file)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    with pytest.raises(FormatError, match=f"of {what} format 99, this reqlake reads up to 1: upgrade reqlake"):
        open_all(copy)


def open_all(folder: Path) -> None:
    """Open a run, its checkpoint and its export."""
    run, latest = open_run(folder), latest_checkpoint(folder)
    assert latest is not None
    model = Ranker(run.inputs, run.config.model)
    load_checkpoint(latest, model, torch.optim.AdamW(model.parameters()))
    Engine.load(next((folder / "exports").iterdir()))
