"""Metrics of ranked candidates, in numpy: sorting once gives AUC for any weights, which a bootstrap needs.

torchmetrics has AUC alone (tests compare with it); per-request AUC, normalised entropy and calibration it has not.
Shapes: C candidates, U users, B draws of a bootstrap.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
CLIP = 1e-7
"""Probabilities are kept this far from 0 and 1, so that one sure mistake does not make the entropy infinite."""


@dataclass(frozen=True)
class Scored:
    """Candidates with a known label: score, label 0 or 1, their request and user, [C] each."""

    score: Floats
    label: Floats
    request: Ints
    user: Ints


@dataclass(frozen=True)
class Metrics:
    """`auc` over all pairs; `gauc` the mean of each request's, weighted by candidates; NaN where there is no pair.

    `entropy` is the log loss over that of always saying the mean (below 1 is better than that); `calibration` is the
    mean score over the mean label.
    """

    auc: float
    gauc: float
    entropy: float
    calibration: float


def metrics(scored: Scored, weight: Floats | None = None) -> Metrics:
    """All metrics; `weight` [C] counts each candidate that often."""
    w = np.ones(len(scored.score)) if weight is None else weight
    positive = float((w * scored.label).sum() / max(w.sum(), 1e-300))
    with np.errstate(divide="ignore", invalid="ignore"):
        base = -(positive * np.log(positive) + (1 - positive) * np.log(1 - positive))
        loss = (w * log_loss(scored.score, scored.label)).sum() / w.sum()
        return Metrics(
            auc=auc(scored.score, scored.label, w),
            gauc=grouped_auc(scored, w),
            entropy=float(loss / base),
            calibration=float((w * scored.score).sum() / (w * scored.label).sum()),
        )


def log_loss(score: Floats, label: Floats) -> Floats:
    """[C] binary cross entropy of each candidate, in nats."""
    p = np.clip(score, CLIP, 1 - CLIP)
    loss: Floats = -(label * np.log(p) + (1 - label) * np.log(1 - p))
    return loss


def auc(score: Floats, label: Floats, weight: Floats | None = None) -> float:
    """Probability that a positive scores above a negative, ties count half; NaN without both."""
    return float(WeightedAuc(score, label)(np.ones(len(score)) if weight is None else weight))


class WeightedAuc:
    """AUC of fixed scores under changing weights: the sort is done once."""

    def __init__(self, score: Floats, label: Floats) -> None:
        self.order = np.argsort(score, kind="stable")
        ranked = score[self.order]
        self.starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]]) if len(ranked) else np.zeros(0, int)
        self.label = label[self.order]

    def __call__(self, weight: Floats) -> float:
        """AUC with `weight` [C], in the order of the scores given."""
        w = weight[self.order]
        if not len(w):
            return float("nan")
        positive = np.add.reduceat(w * self.label, self.starts)
        negative = np.add.reduceat(w * (1 - self.label), self.starts)
        below = np.cumsum(negative) - negative
        pairs = positive.sum() * negative.sum()
        return float((positive * (below + negative / 2)).sum() / pairs) if pairs else float("nan")


def request_auc(scored: Scored) -> tuple[Floats, Ints, Floats]:
    """Of each request with both labels: its AUC, its user and its number of candidates, [G] each."""
    order = np.lexsort((scored.score, scored.request))
    request, score, label = scored.request[order], scored.score[order], scored.label[order]
    if not len(request):
        return np.zeros(0), np.zeros(0, np.int64), np.zeros(0)
    new = np.r_[True, request[1:] != request[:-1]]
    first = np.flatnonzero(new)
    tie = np.flatnonzero(new | np.r_[True, score[1:] != score[:-1]])
    owner = np.cumsum(new)[tie] - 1
    positive, negative = np.add.reduceat(label, tie), np.add.reduceat(1 - label, tie)
    before = np.cumsum(negative) - negative
    below = before - before[np.searchsorted(tie, first)][owner]
    won = np.bincount(owner, positive * (below + negative / 2), len(first))
    positives, negatives = np.add.reduceat(label, first), np.add.reduceat(1 - label, first)
    both = (positives > 0) & (negatives > 0)
    size = (positives + negatives)[both]
    return won[both] / (positives * negatives)[both], scored.user[order][first][both], size


def grouped_auc(scored: Scored, weight: Floats | None = None) -> float:
    """The requests' mean AUC, each weighted by its candidates (times the weight of its user, if given)."""
    values, users, size = request_auc(scored)
    if weight is not None:
        of_user = dict(zip(scored.user.tolist(), weight.tolist(), strict=True))
        size = size * np.array([of_user[u] for u in users.tolist()])
    return float((values * size).sum() / size.sum()) if size.sum() else float("nan")
