"""Bootstrap over users: how far a metric, and the difference of two models, would move with other users.

Users are drawn with replacement and all of their candidates come along, because one user's candidates are not
independent. Every model sees the same draws, so differences are paired: far tighter than two intervals side by side.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.metrics import Scored, WeightedAuc, log_loss, request_auc

Floats = NDArray[np.float64]
NAMES = ("auc", "gauc", "entropy")


@dataclass(frozen=True)
class Interval:
    """A 95 % interval."""

    low: float
    high: float


def draw_metrics(models: Mapping[str, Scored], draws: int, seed: int) -> dict[str, dict[str, Floats]]:
    """Of each model, each metric in each draw [B]. All models score the same candidates in the same order."""
    first = next(iter(models.values()))
    users, index = np.unique(first.user, return_inverse=True)
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(len(users), np.full(len(users), 1 / len(users)), size=draws).astype(np.float64)
    return {name: _draw(scored, users, index, counts) for name, scored in models.items()}


def _draw(scored: Scored, users: NDArray[np.int64], index: NDArray[np.int64], counts: Floats) -> dict[str, Floats]:
    weighted_auc = WeightedAuc(scored.score, scored.label)
    value, owner, size = request_auc(scored)
    own = np.searchsorted(users, owner)
    rows, positive = (np.bincount(index, x, len(users)) for x in (np.ones(len(index)), scored.label))
    loss = np.bincount(index, log_loss(scored.score, scored.label), len(users))
    won = np.bincount(own, value * size, len(users))
    sizes = np.bincount(own, size, len(users))
    with np.errstate(divide="ignore", invalid="ignore"):
        share = counts @ positive / (counts @ rows)
        base = -(share * np.log(share) + (1 - share) * np.log(1 - share))
        return {
            "auc": np.array([weighted_auc(w[index]) for w in counts]),
            "gauc": counts @ won / (counts @ sizes),
            "entropy": counts @ loss / (counts @ rows) / base,
        }


def interval(values: Floats) -> Interval:
    """The middle 95 % of the draws that have a value."""
    known = values[~np.isnan(values)]
    if not len(known):
        return Interval(float("nan"), float("nan"))
    low, high = np.percentile(known, [2.5, 97.5])
    return Interval(float(low), float(high))
