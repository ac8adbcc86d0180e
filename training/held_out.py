"""Candidates of some requests in memory: keys, labels and the model's numbers, for metrics and baselines.

One row per candidate. Numbers are those that the model standardises (training.models.values), so that a baseline has
the very same view of a count or a missing value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from feature_reader import RequestBatch
from training.metrics import Floats, Ints
from training.models import ModelInputs
from training.models.values import numbers

Predict = Callable[[RequestBatch], dict[str, NDArray[np.float32]]]


@dataclass(frozen=True)
class Candidates:
    """C candidates: keys [C], the label [C] (NaN unknown), dense numbers [C, F], named columns and scores [C]."""

    request: Ints
    user: Ints
    label: Floats
    dense: Floats
    columns: dict[str, Floats]
    score: Floats

    def only(self, rows: NDArray[np.bool_]) -> Candidates:
        """Some rows."""
        named = {name: values[rows] for name, values in self.columns.items()}
        return Candidates(
            self.request[rows], self.user[rows], self.label[rows], self.dense[rows], named, self.score[rows]
        )


def collect(
    batches: Iterable[RequestBatch],
    inputs: ModelInputs,
    columns: Iterable[str] = (),
    predict: Predict | None = None,
) -> Candidates:
    """All candidates of the batches (numpy or torch), with `predict`'s score of the first task where it is given.

    Requests are numbered in the order read, since ids repeat where one request's rows disagree.
    """
    parts: list[tuple[NDArray[np.generic], ...]] = []
    names, seen, label = list(columns), 0, inputs.tasks[0].label
    for read in batches:
        batch = read.torch()
        index = batch.request_index
        at = torch.as_tensor(batch.request["request_ts"])
        request = numbers(inputs.request_dense, batch.request.__getitem__, at, torch.float64)
        candidate = numbers(inputs.candidate_dense, batch.candidates.__getitem__, at[index], torch.float64)
        own = [_per_candidate(batch, name, index) for name in names]
        score = predict(batch)[label] if predict else np.zeros(batch.C, np.float32)
        parts.append(
            (
                index.numpy() + seen,
                torch.as_tensor(batch.request["user_id"])[index].numpy(),
                torch.as_tensor(batch.candidates[label]).double().numpy(),
                torch.cat([request[index], candidate], 1).numpy(),
                np.stack(own, 1) if own else np.zeros((batch.C, 0)),
                score.astype(np.float64),
            )
        )
        seen += batch.R
    if not parts:
        width = sum(d.width for d in (*inputs.request_dense, *inputs.candidate_dense))
        none, keys = np.zeros(0), np.zeros(0, np.int64)
        return Candidates(keys, keys, none, np.zeros((0, width)), dict.fromkeys(names, none), none)
    request_, user, known, dense, named, scores = (np.concatenate(x) for x in zip(*parts, strict=True))
    return Candidates(request_, user, known, dense, {n: named[:, i] for i, n in enumerate(names)}, scores)


def _per_candidate(batch: RequestBatch, name: str, index: torch.Tensor) -> Floats:
    """A scalar column of requests or candidates, one value per candidate."""
    column = torch.as_tensor(batch[name])
    values: Floats = (column[index] if name in batch.request else column).double().numpy()
    return values
