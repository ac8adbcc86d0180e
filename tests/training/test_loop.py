"""Runs: they learn, and killed, stopped or diverging ones go on to the very same parameters."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from safetensors.torch import load_file

from lakehouse.errors import FormatError
from lakehouse.settings import Settings
from tests.support.datasets import SPECS, raw_log, reference_requests, write_request_table
from tests.training.batches import STILL
from tests.training.run_in_process import CONFIG
from training.checkpoint import latest_checkpoint
from training.config import TrainConfig
from training.errors import CheckpointError, DivergedError, StoppedError, TrainingError
from training.export import load_export
from training.loop import resume, train
from training.progress import Silence, Step

ROOT = Path(__file__).parents[2]


def fill(settings: Settings, name: str = "feed", labels: str | None = None) -> pa.Table:
    """A request table of the dataset; `labels` is a label column that follows the candidate's category."""
    spec = SPECS[name]
    requests = reference_requests(raw_log(spec, users=24, fanout=3, history=6), spec)
    if labels is not None:
        column = requests.schema.get_field_index(labels)
        even = [[float(c % 2) for c in row] for row in requests["category"].to_pylist()]
        requests = requests.set_column(column, requests.schema.field(column), pa.array(even, pa.list_(pa.float32())))
    write_request_table(settings, spec, requests, row_group=16)
    return requests


def weights(run: Path) -> dict[str, torch.Tensor]:
    """The parameters of a run's latest checkpoint."""
    latest = latest_checkpoint(run)
    assert latest is not None
    return load_file(latest / "model.safetensors") | {
        f"optimizer.{k}": v for k, v in load_file(latest / "optimizer.safetensors").items()
    }


def state(run: Path) -> dict[str, object]:
    """Where a run's latest checkpoint stands, but for its clock."""
    latest = latest_checkpoint(run)
    assert latest is not None
    document = json.loads((latest / "state.json").read_text())
    document["epochs"] = [e | {"seconds": 0} for e in document["epochs"]]
    return document | {"seconds": 0}


def assert_same_end(one: Path, two: Path) -> None:
    """Bit-identical parameters, moments, reader position and history; equal exports."""
    a, b = weights(one), weights(two)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert state(one) == state(two)
    assert (one / "export").resolve().name == (two / "export").resolve().name


@pytest.mark.parametrize("name", ["feed", "shop", "video"])
def test_each_dataset_trains_and_exports(settings: Settings, tmp_path: Path, name: str) -> None:
    fill(settings, name)
    config = TrainConfig(table=SPECS[name].table(), run=tmp_path / "run", epochs=1, batch_requests=16, model=STILL)
    report = train(config, settings)
    assert report.steps == math.ceil(report_requests(report.run) / 16)
    assert math.isfinite(report.best.validation)
    assert load_export(report.export).version == report.version
    assert load_export(report.export).spec == SPECS[name]


def report_requests(run: Path) -> int:
    """Training requests of a run."""
    return int(json.loads((run / "run.json").read_text())["split"]["train_requests"])


def test_a_run_learns_what_can_be_learned(settings: Settings, tmp_path: Path) -> None:
    """Here the label is the parity of the candidate's category, of which there are 30."""
    fill(settings, labels="click")
    model = dataclasses.replace(STILL, sub_tables=1)
    config = dataclasses.replace(
        CONFIG,
        run=tmp_path / "run",
        epochs=16,
        learning_rate=0.02,
        weight_decay=0.0,
        checkpoint_steps=1000,
        model=model,
    )
    report = train(config, settings)
    assert report.best.validation_auc > 0.95
    assert report.epochs[-1].loss < report.epochs[0].loss / 2


def process(settings: Settings, run: Path, *how: str) -> subprocess.Popen[str]:
    """A training process."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.training.run_in_process", str(settings.home), str(run), *how],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def until(running: subprocess.Popen[str], step: int) -> None:
    """Wait for a step."""
    assert running.stdout is not None
    for line in running.stdout:
        if line.startswith(f"step {step} "):
            return
    pytest.fail(f"the process ended before step {step}: {running.stderr.read() if running.stderr else ''}")


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_bits(settings: Settings, tmp_path: Path) -> None:
    """Killed before its first checkpoint (step 4), then between two."""
    fill(settings)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    report = train(dataclasses.replace(CONFIG, run=whole), settings)
    assert report.steps == 24  # 58 of the 72 requests are trained on, 8 a step, three times
    for how, step in (((), 2), (("resume",), 10)):
        with process(settings, killed, *how) as running:
            until(running, step)
            with pytest.raises(TrainingError, match=f"{killed} is being trained by another process"):
                resume(killed, settings)
            running.send_signal(signal.SIGKILL)
    assert not (killed / "export").exists()
    resume(killed, settings)
    assert_same_end(whole, killed)


class StopAt(Silence):
    """Ctrl-C after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def stepped(self, step: Step) -> None:
        if step.step == self.step:
            signal.raise_signal(signal.SIGINT)


def test_ctrl_c_finishes_the_step_and_keeps_it(settings: Settings, tmp_path: Path) -> None:
    fill(settings)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    train(dataclasses.replace(CONFIG, run=whole), settings)
    with pytest.raises(StoppedError, match=f"stopped at step 5 of 24. .*--resume {stopped}"):
        train(dataclasses.replace(CONFIG, run=stopped), settings, StopAt(5))
    latest = latest_checkpoint(stopped)
    assert latest is not None
    assert latest.name == "step-00000005"
    resume(stopped, settings)
    assert_same_end(whole, stopped)


def test_a_diverging_run_keeps_the_model_before(settings: Settings, tmp_path: Path) -> None:
    """A learning rate that overflows float32: the checkpoint holds finite parameters and loads."""
    fill(settings)
    with pytest.raises(DivergedError, match=r"step \d+: loss .* user_id \d+, request_id \d+.*holds the model"):
        train(dataclasses.replace(CONFIG, run=tmp_path / "run", learning_rate=1e30), settings)
    kept = weights(tmp_path / "run")
    assert all(bool(kept[name].isfinite().all()) for name in kept if not name.startswith("optimizer"))


def test_the_same_seed_gives_the_same_run(settings: Settings, tmp_path: Path) -> None:
    fill(settings)
    before = torch.get_rng_state()
    for folder in ("one", "two"):
        train(dataclasses.replace(CONFIG, run=tmp_path / folder, epochs=1), settings)
    assert_same_end(tmp_path / "one", tmp_path / "two")
    assert torch.equal(before, torch.get_rng_state())  # the caller's random numbers are their own
    train(dataclasses.replace(CONFIG, run=tmp_path / "three", epochs=1, seed=1), settings)
    assert (tmp_path / "one" / "export").resolve().name != (tmp_path / "three" / "export").resolve().name


def test_only_the_latest_checkpoints_are_kept(settings: Settings, tmp_path: Path) -> None:
    fill(settings)
    train(dataclasses.replace(CONFIG, run=tmp_path / "run"), settings)
    left = sorted(p.name for p in (tmp_path / "run" / "checkpoints").iterdir())
    assert left == ["step-00000020", "step-00000024"]


def test_a_folder_with_a_run_is_not_taken(settings: Settings, tmp_path: Path) -> None:
    fill(settings)
    config = dataclasses.replace(CONFIG, run=tmp_path / "run", epochs=1)
    train(config, settings)
    with pytest.raises(TrainingError, match="holds a run already: resume it"):
        train(config, settings)


def test_what_cannot_be_resumed_is_named(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"is not a run: cannot read run\.json"):
        resume(tmp_path, settings)
    (tmp_path / "run.json").write_text(json.dumps({"format": 7}))
    with pytest.raises(FormatError, match="of run format 7, this reqlake reads up to 1"):
        resume(tmp_path, settings)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"learning_rate": -1.0}, r"learning_rate is -1\.0"),
        ({"history": "histroy"}, "no sequence 'histroy' in feed. Did you mean 'history'"),
        ({"task_weights": {"clik": 1.0}}, "no label 'clik' in feed. Did you mean 'click'"),
        ({"task_weights": {"click": 0.0}}, "has no label to learn"),
        ({"model": dataclasses.replace(STILL, width=15)}, "width 15 is not a multiple of its 2 heads"),
    ],
)
def test_a_config_that_cannot_work_is_named(
    settings: Settings, tmp_path: Path, change: dict[str, object], says: str
) -> None:
    fill(settings)
    with pytest.raises(TrainingError, match=says):
        train(dataclasses.replace(CONFIG, run=tmp_path / "run", **change), settings)  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()


def test_unknown_labels_everywhere_are_named(settings: Settings, tmp_path: Path) -> None:
    spec = SPECS["feed"]
    requests = reference_requests(raw_log(spec, users=8), spec)
    unknown = pa.array(
        [[None] * n for n in pc.list_value_length(requests["click"]).to_pylist()], pa.list_(pa.float32())
    )
    column = requests.schema.get_field_index("click")
    write_request_table(settings, spec, requests.set_column(column, requests.schema.field(column), unknown))
    with pytest.raises(TrainingError, match="label 'click' is unknown in all training rows"):
        train(dataclasses.replace(CONFIG, run=tmp_path / "run"), settings)
