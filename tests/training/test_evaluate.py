"""The evaluation of a run against plain baselines."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lakehouse.catalog import open_catalog
from lakehouse.settings import Settings
from tests.training.run_in_process import CONFIG
from tests.training.test_loop import fill
from training.baselines import BIAS, ITEM_MEAN, LOGISTIC, RATE, logistic
from training.errors import CheckpointError, TrainingError
from training.evaluate import MODEL, evaluate
from training.held_out import collect
from training.loop import train
from training.run import open_run


@pytest.fixture
def run(settings: Settings, tmp_path: Path) -> Path:
    """A finished run whose label follows the candidate's category, which only an embedding can learn."""
    fill(settings, labels="click")
    model = dataclasses.replace(CONFIG.model, sub_tables=1, embedding_dropout=0.0, id_dropout=0.0)
    config = dataclasses.replace(CONFIG, run=tmp_path / "run", epochs=12, learning_rate=0.02, model=model)
    train(config, settings)
    return tmp_path / "run"


def test_the_model_is_tested_beside_its_baselines(
    settings: Settings, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[set[str]] = []

    def watched(*given: Any, **options: Any) -> Any:
        table = open_catalog(settings).load_table(open_run(run).config.table)
        held.append({name.split("-")[0] for name in table.metadata.refs})
        return collect(*given, **options)

    monkeypatch.setattr("training.evaluate.collect", watched)
    found = evaluate(run, settings, item_mean="price", user_bias="score", draws=50)
    assert held == [{"main", "reader/evaluate"}] * 2, "no expiry takes away what it reads"
    assert [r.name for r in found.results] == [MODEL, RATE, ITEM_MEAN, BIAS, LOGISTIC]
    assert found.requests == open_run(run).split.test_requests
    assert found.auc > 0.9 > max(found.baseline_auc.values())
    for result in found.results:
        assert result.auc.low <= result.metrics.auc <= result.auc.high
        assert (result.ahead is None) == (result.name == MODEL)
    assert found.baseline_auc[RATE] == 0.5
    assert json.loads((run / "evaluation.json").read_text())["version"] == found.version
    assert (run / "auc.png").read_bytes().startswith(b"\x89PNG")
    assert evaluate(run, settings, item_mean="price", user_bias="score", draws=50) == found
    with pytest.raises(TrainingError, match=r"'prise' is not a number of this model\. Did you mean 'price'"):
        evaluate(run, settings, item_mean="prise")


def test_a_run_without_an_end_is_not_tested(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not a run"):
        evaluate(tmp_path, settings)


def test_logistic_regression_is_at_its_optimum() -> None:
    """The gradient of its own objective, by autograd, is zero there; a torch loop of another kind ends at the same."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 3)) * [1, 10, 0.1] + [0, 5, -1]
    y = (rng.random(400) < 1 / (1 + np.exp(-(x[:, 0] - 0.1 * x[:, 1])))).astype(float)
    predict = logistic(x, y)
    z = torch.from_numpy((x - x.mean(0)) / x.std(0))
    w = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=1.0)
    for _ in range(2000):
        optimizer.zero_grad()
        fit = torch.nn.functional.binary_cross_entropy_with_logits(z @ w[1:] + w[0], torch.from_numpy(y))
        (fit + 1e-4 * (w[1:] ** 2).sum()).backward()
        optimizer.step()
    assert predict(x) == pytest.approx((z @ w[1:] + w[0]).sigmoid().detach().numpy(), abs=1e-5)
