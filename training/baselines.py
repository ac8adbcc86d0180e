"""Plain models to beat: the global rate, an item's mean, user plus item bias, a logistic regression on all numbers.

All are fitted on the requests before the test period (validation included: they choose nothing on it).
Shapes: C candidates, F numbers.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from lakehouse.errors import nearest
from training.errors import TrainingError
from training.held_out import Candidates
from training.metrics import Floats
from training.models import ModelInputs

Fitted = Callable[[Candidates], Floats]
RATE, ITEM_MEAN, BIAS, LOGISTIC = "global rate", "item mean", "user + item bias", "logistic regression"
PENALTY = 1e-4


def fit_baselines(known: Candidates, item_mean: str | None, user_bias: str | None) -> dict[str, Fitted]:
    """Baselines by name, fitted on candidates with a known label; each gives scores [C] of others.

    `item_mean` and `user_bias` name columns that hold an item's mean as of the request and the user's distance from it;
    without them the two baselines that need them are left out.
    """
    rate = float(known.label.mean())
    fitted: dict[str, Fitted] = {RATE: lambda rows: np.full(len(rows.label), rate)}
    if item_mean:
        fitted[ITEM_MEAN] = _on_columns(known, (item_mean,))
        if user_bias:
            fitted[BIAS] = _on_columns(known, (item_mean, user_bias))
    if known.dense.shape[1]:
        predict = logistic(known.dense, known.label)
        fitted[LOGISTIC] = lambda rows: predict(rows.dense)
    return fitted


def check_columns(inputs: ModelInputs, *names: str | None) -> None:
    """Raises TrainingError for a name that is no scalar number of the model."""
    known = [d.column for d in (*inputs.request_dense, *inputs.candidate_dense) if d.size == 1]
    for name in names:
        if name is not None and name not in known:
            hint = f"{nearest(name, known)} Known: {', '.join(known)}"
            raise TrainingError(f"baseline column {name!r} is not a number of this model.{hint}")


def _on_columns(known: Candidates, names: tuple[str, ...]) -> Fitted:
    """A logistic curve over the sum of the named columns: one slope, one offset."""

    def total(rows: Candidates) -> Floats:
        column: Floats = np.sum([np.nan_to_num(rows.columns[name]) for name in names], axis=0)
        return column[:, None]

    predict = logistic(total(known), known.label)
    return lambda rows: predict(total(rows))


def logistic(x_CF: Floats, label_C: Floats) -> Callable[[Floats], Floats]:
    """Logistic regression with a slight L2 penalty, to its optimum (L-BFGS on the whole data)."""
    mean, std = x_CF.mean(0), x_CF.std(0) + 1e-9
    x, y = torch.from_numpy((x_CF - mean) / std), torch.from_numpy(label_C)
    w = torch.zeros(x.shape[1] + 1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([w], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        fit = torch.nn.functional.binary_cross_entropy_with_logits(x @ w[1:] + w[0], y)
        total = fit + PENALTY * (w[1:] ** 2).sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    best = w.detach().numpy()

    def predict(rows: Floats) -> Floats:
        scores: Floats = 1 / (1 + np.exp(-((rows - mean) / std @ best[1:] + best[0])))
        return scores

    return predict
