"""Metrics against slow, plain definitions, and against torchmetrics where it has them."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.functional.classification import binary_auroc

from training.bootstrap import draw_metrics, interval
from training.metrics import Scored, auc, metrics

Row = tuple[int, int, float, int]


def scored(rows: list[Row]) -> Scored:
    """Rows (user, request of the user, score, label)."""
    user, request, score, label = zip(*rows, strict=True)
    return Scored(
        np.array(score, float), np.array(label, float), np.array(user) * 100 + np.array(request), np.array(user)
    )


def plain_auc(pairs: list[tuple[float, int]]) -> float:
    """Every positive against every negative."""
    won = [(a > b) + 0.5 * (a == b) for (a, x), (b, y) in itertools.product(pairs, pairs) if x == 1 and y == 0]
    return sum(won) / len(won) if won else math.nan


def plain_gauc(rows: list[Row]) -> float:
    """Each request's AUC, weighted by its candidates."""
    groups = defaultdict(list)
    for user, request, score, label in rows:
        groups[user, request].append((score, label))
    known = [(plain_auc(g), len(g)) for g in groups.values() if not math.isnan(plain_auc(g))]
    return sum(a * n for a, n in known) / sum(n for _, n in known) if known else math.nan


# Few distinct scores, so that ties are common.
ROWS = st.lists(
    st.tuples(
        st.integers(0, 3), st.integers(0, 2), st.sampled_from([0.1, 0.2, 0.25, 0.5, 0.7, 0.9]), st.integers(0, 1)
    ),
    min_size=1,
    max_size=40,
)


def same(a: float, b: float) -> bool:
    return (math.isnan(a) and math.isnan(b)) or math.isclose(a, b, rel_tol=1e-12, abs_tol=1e-12)


@given(ROWS)
def test_auc_and_request_auc_equal_their_definitions(rows: list[Row]) -> None:
    found = metrics(scored(rows))
    assert same(found.auc, plain_auc([(s, y) for _, _, s, y in rows]))
    assert same(found.gauc, plain_gauc(rows))


@given(ROWS)
def test_entropy_and_calibration_equal_their_definitions(rows: list[Row]) -> None:
    labels = [y for *_, y in rows]
    mean = sum(labels) / len(labels)
    if mean in (0, 1):
        return
    loss = -sum(math.log(s if y else 1 - s) for _, _, s, y in rows) / len(rows)
    found = metrics(scored(rows))
    assert same(found.entropy, loss / -(mean * math.log(mean) + (1 - mean) * math.log(1 - mean)))
    assert same(found.calibration, sum(s for *_, s, _ in rows) / sum(labels))


@given(ROWS, st.data())
def test_a_weight_counts_a_candidate_that_often(rows: list[Row], data: st.DataObject) -> None:
    times = data.draw(st.lists(st.integers(0, 3), min_size=len(rows), max_size=len(rows)))
    repeated = [(s, y) for (_, _, s, y), n in zip(rows, times, strict=True) for _ in range(n)]
    one = scored(rows)
    assert same(auc(one.score, one.label, np.array(times, float)), plain_auc(repeated))


def test_auc_equals_torchmetrics() -> None:
    rng = np.random.default_rng(0)
    score, label = rng.random(500).round(2), rng.integers(0, 2, 500).astype(float)
    theirs = binary_auroc(torch.tensor(score), torch.tensor(label, dtype=torch.long))
    assert auc(score, label) == pytest.approx(float(theirs), abs=1e-6)


def test_a_draw_equals_the_metrics_of_the_users_drawn() -> None:
    rng = np.random.default_rng(1)
    rows = [
        (int(u), int(rng.integers(3)), round(rng.random(), 1), int(rng.integers(2))) for u in rng.integers(0, 6, 300)
    ]
    whole = scored(rows)
    draws = draw_metrics({"model": whole}, draws=20, seed=3)["model"]
    users = np.unique(whole.user)
    counts = np.random.default_rng(3).multinomial(len(users), np.full(len(users), 1 / len(users)), size=20)
    for b, count in enumerate(counts):
        weight = count[np.searchsorted(users, whole.user)].astype(float)
        expected = metrics(whole, weight)
        assert same(draws["auc"][b], expected.auc)
        assert same(draws["gauc"][b], expected.gauc)
        assert math.isclose(draws["entropy"][b], expected.entropy, rel_tol=1e-9)


def test_a_better_model_has_a_paired_difference_above_zero() -> None:
    rng = np.random.default_rng(2)
    label = rng.integers(0, 2, 2000).astype(float)
    user = rng.integers(0, 50, 2000)
    noise = rng.normal(size=2000)
    models = {
        name: Scored(1 / (1 + np.exp(-(skill * (label - 0.5) + noise))), label, user, user)
        for name, skill in (("good", 1.2), ("poor", 1.0))
    }
    draws = draw_metrics(models, draws=200, seed=0)
    assert interval(draws["good"]["auc"] - draws["poor"]["auc"]).low > 0
    assert interval(draws["good"]["auc"]).low < interval(draws["poor"]["auc"]).high  # not paired: they overlap


def test_metrics_without_both_labels_are_nan() -> None:
    found = metrics(scored([(1, 1, 0.3, 0), (1, 1, 0.4, 0)]))
    assert math.isnan(found.auc)
    assert math.isnan(found.gauc)
