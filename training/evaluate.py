"""The evaluation of a run: its model and plain baselines on the test requests, with intervals over users.

The test period is the run's own (`run.json`), read from the snapshot that it was trained on.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table as RichTable

from feature_reader import RequestBatch
from lakehouse.settings import Settings
from lakehouse.tags import reading
from training.baselines import check_columns, fit_baselines
from training.bootstrap import Interval, draw_metrics, interval
from training.errors import TrainingError
from training.export import load_export
from training.folders import write_file
from training.held_out import Candidates, collect
from training.loop import EXPORT
from training.metrics import Metrics, Scored, metrics
from training.models import Ranker
from training.plot import plot_auc
from training.run import open_run, request_table

MODEL = "DCAT ranker"
BATCH = 256


@dataclass(frozen=True)
class Result:
    """One model on the test requests. `ahead` is the DCAT ranker's AUC minus this one's, paired by user."""

    name: str
    metrics: Metrics
    auc: Interval
    gauc: Interval
    entropy: Interval
    ahead: Interval | None


@dataclass(frozen=True)
class Evaluation:
    """The test of a run: the DCAT ranker first, then baselines."""

    run: Path
    version: str
    task: str
    requests: int
    users: int
    candidates: int
    draws: int
    results: tuple[Result, ...]

    @property
    def auc(self) -> float:
        """The DCAT ranker's AUC."""
        return self.results[0].metrics.auc

    @property
    def baseline_auc(self) -> dict[str, float]:
        """AUC of each baseline."""
        return {result.name: result.metrics.auc for result in self.results[1:]}

    def table(self) -> RichTable:
        """For a terminal."""
        table = RichTable(
            title=f"{self.task}: {self.candidates:,} candidates of {self.requests:,} requests, {self.users:,} users",
            caption=f"95 % intervals over users ({self.draws} bootstrap draws); 'ahead' is paired",
        )
        for name in ("model", "AUC", "95 %", "per-request AUC", "entropy", "calibration", "ahead by, 95 %"):
            table.add_column(name, justify="left" if name == "model" else "right", no_wrap=True)
        for r in self.results:
            table.add_row(
                r.name,
                f"{r.metrics.auc:.4f}",
                f"{r.auc.low:.3f} … {r.auc.high:.3f}",
                f"{r.metrics.gauc:.4f}",
                f"{r.metrics.entropy:.4f}",
                f"{r.metrics.calibration:.3f}",
                f"{r.ahead.low:+.4f} … {r.ahead.high:+.4f}" if r.ahead else "",
            )
        return table

    def to_json(self) -> dict[str, Any]:
        """As JSON's types."""
        return asdict(self) | {"run": str(self.run)}


def evaluate(
    run: Path,
    settings: Settings,
    *,
    item_mean: str | None = None,
    user_bias: str | None = None,
    draws: int = 1000,
    seed: int = 0,
    plot: Path | None = None,
) -> Evaluation:
    """Test a finished run; writes `evaluation.json` and `auc.png` (or `plot`) into its folder.

    `item_mean` and `user_bias` name the columns of two baselines (training.baselines). Raises TrainingError for a run
    without an export, a first task that is no probability, or a column that is not there.
    """
    started = open_run(run)
    if not (run / EXPORT).exists():
        raise TrainingError(f"{run} has no export yet: finish it with `reqlake train --resume {run}`")
    task = started.inputs.tasks[0]
    if task.loss != "bce":
        raise TrainingError(f"the first label, {task.label!r}, is not a probability: AUC needs one within [0, 1]")
    check_columns(started.inputs, item_mean, user_bias)
    export = load_export(run / EXPORT)
    columns = [name for name in (item_mean, user_bias) if name]
    table = request_table(started.config.table, settings)
    how = {"batch_requests": BATCH, "shuffle": False}
    predict = _predictor(export.model)
    with reading(table, "evaluate", settings, snapshot_id=started.snapshot_id):
        before = _known(collect(started.reader(table, started.split.before_test, **how), started.inputs, columns))
        test = _known(collect(started.reader(table, started.split.test, **how), started.inputs, columns, predict))
    scores = {MODEL: test.score}
    scores |= {name: fitted(test) for name, fitted in fit_baselines(before, item_mean, user_bias).items()}
    results = compare({name: _scored(test, score) for name, score in scores.items()}, draws, seed)
    found = Evaluation(
        run=run,
        version=export.version,
        task=task.label,
        requests=len(np.unique(test.request)),
        users=len(np.unique(test.user)),
        candidates=len(test.label),
        draws=draws,
        results=results,
    )
    plot_auc(found.task, [(r.name, r.metrics.auc, r.auc) for r in results], plot or run / "auc.png")
    write_file(run / "evaluation.json", json.dumps(found.to_json(), indent=1))
    return found


def compare(models: dict[str, Scored], draws: int, seed: int) -> tuple[Result, ...]:
    """Each model's metrics and intervals; the first model is compared with each other."""
    drawn = draw_metrics(models, draws, seed)
    first = next(iter(models))
    return tuple(
        Result(
            name=name,
            metrics=metrics(scored),
            auc=interval(drawn[name]["auc"]),
            gauc=interval(drawn[name]["gauc"]),
            entropy=interval(drawn[name]["entropy"]),
            ahead=None if name == first else interval(drawn[first]["auc"] - drawn[name]["auc"]),
        )
        for name, scored in models.items()
    )


def _known(rows: Candidates) -> Candidates:
    return rows.only(~np.isnan(rows.label))


def _scored(rows: Candidates, score: np.ndarray[Any, np.dtype[np.float64]]) -> Scored:
    return Scored(score, rows.label, rows.request, rows.user)


def _predictor(model: Ranker) -> Any:
    @torch.inference_mode()
    def predict(batch: RequestBatch) -> dict[str, Any]:
        return {task: values.numpy() for task, values in model.predict(model(batch)).items()}

    return predict
