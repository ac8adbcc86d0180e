"""How good a model is on held-out requests: its first task's loss, against that of the best constant, and its AUC."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from feature_reader import RequestBatch
from training.metrics import auc, log_loss
from training.models import Ranker


@dataclass(frozen=True)
class Validation:
    """`loss` is below 1 where the model is better than the best constant; `auc` is NaN for a number's task."""

    loss: float
    auc: float


@torch.inference_mode()
def validate(model: Ranker, batches: Iterable[RequestBatch], device: str) -> Validation:
    """The model's first task over batches; the model is left in training mode."""
    task = model.inputs.tasks[0]
    predicted, labels = [], []
    model.eval()
    try:
        for batch in batches:
            seen = model.window(batch, device)
            found = model.predict(model(batch.to(device), seen))[task.label]
            predicted.append(found.double().cpu().numpy())
            labels.append(np.asarray(batch.candidates[task.label], dtype=np.float64))
    finally:
        model.train()
    p, y = np.concatenate(predicted or [np.zeros(0)]), np.concatenate(labels or [np.zeros(0)])
    p, y = p[~np.isnan(y)], y[~np.isnan(y)]
    if not len(y):
        return Validation(float("nan"), float("nan"))
    if task.loss == "bce":
        loss, base = log_loss(p, y).mean(), log_loss(np.full(len(y), y.mean()), y).mean()
        return Validation(float(loss / base), auc(p, y))
    return Validation(float(((p - y) ** 2).mean() / max(y.var(), 1e-12)), float("nan"))
