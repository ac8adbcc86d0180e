"""What a spec becomes for a model, and how its numbers are standardised."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from feature_reader import Jagged, RequestBatch
from lakehouse.spec import load_spec
from tests.support.datasets import SPECS
from tests.training.batches import request_batch
from training.errors import TrainingError
from training.inputs import describe, fit
from training.models import ModelInputs
from training.models.description import Dense
from training.models.values import LIMIT, numbers, raw_numbers
from training.statistics import Column, Moments, Statistics

MOVIELENS = Path(__file__).parents[2] / "reqlake" / "demo" / "movielens.yaml"


def names(parts: tuple[object, ...]) -> list[str]:
    return [getattr(part, "column") for part in parts]  # noqa: B009 - Dense and Lookup both have it


def test_a_timed_history_with_aligned_candidates() -> None:
    inputs = describe(SPECS["feed"])
    assert inputs.history is not None
    assert inputs.history.time == "history_ts"
    assert inputs.history.aligned == (("history_item_id", "item_id"),)
    assert names(inputs.history.lookups) == ["history_item_id"]
    assert names(inputs.history.dense) == ["history_action"]
    assert names(inputs.request_dense) == ["hour", "score"]
    assert names(inputs.candidate_lookups) == ["category"]
    assert inputs.ignored == ("country",)  # a string without an embedding
    assert [(t.label, t.loss, t.weight) for t in inputs.tasks] == [("click", "bce", 1.0)]


def test_an_untimed_history_and_ragged_ids_of_a_request() -> None:
    inputs = describe(SPECS["shop"])
    assert inputs.history is not None
    assert inputs.history.time is None
    assert names(inputs.request_dense) == ["loyal"]
    assert names(inputs.request_lookups) == ["basket"]


def test_the_first_sequence_is_attended_to_and_others_are_pooled() -> None:
    inputs = describe(SPECS["video"])
    assert inputs.history is not None
    assert inputs.history.name == "watched"
    assert [(s.name, s.newest_first) for s in inputs.pooled] == [("searched", True)]
    assert {(d.column, d.size) for d in inputs.request_dense} == {("taste", 4)}
    assert {(d.column, d.size) for d in inputs.candidate_dense} == {("look", 3), ("length", 1)}
    assert inputs.ignored == ("words",)
    assert [(t.label, t.loss, t.weight) for t in inputs.tasks] == [
        ("finished", "bce", 1.0),
        ("watch_seconds", "mse", 0.3),
    ]
    turned = describe(SPECS["video"], history="searched", task_weights={"finished": 0.0})
    assert turned.history is not None
    assert turned.history.name == "searched"
    assert [t.label for t in turned.tasks] == ["watch_seconds"]


def test_movielens_needs_nothing_of_its_own() -> None:
    inputs = describe(load_spec(MOVIELENS))
    assert inputs.history is not None
    assert dict(inputs.history.aligned) == {
        "history_item_id": "item_id",
        "history_item_mean": "item_mean",
        "history_item_count": "item_count",
    }
    assert inputs.ignored == ()


@pytest.mark.parametrize("name", SPECS)
def test_inputs_go_to_json_and_back(name: str) -> None:
    fitted = fit(describe(SPECS[name]), [request_batch(name)])
    assert ModelInputs.from_json(json.loads(json.dumps(fitted.to_json()))) == fitted


def test_numbers_are_standardised_and_gaps_are_marked() -> None:
    batch = request_batch("feed", users=40)
    inputs = fit(describe(SPECS["feed"]), [batch])
    (score,) = (d for d in inputs.request_dense if d.column == "score")
    assert score.missing  # a tenth of the raw scores is null
    x = numbers((score,), batch.request.__getitem__, batch.request["request_ts"], torch.float64)
    gone = batch.request["score"].isnan()
    assert x[:, 1].tolist() == gone.double().tolist()
    assert (x[gone, 0] == 0).all()
    assert x[~gone, 0].mean().item() == pytest.approx(0, abs=1e-9)
    assert x[~gone, 0].std(unbiased=False).item() == pytest.approx(1)


def test_what_lies_far_out_is_held() -> None:
    dense = Dense(column="x", mean=(0.0,), std=(1.0,))
    values = torch.tensor([1e30, -torch.inf, 2.0, torch.nan])
    x = numbers((dense,), {"x": values}.__getitem__, torch.zeros(4, dtype=torch.int64), torch.float32)
    assert x[:, 0].tolist() == [LIMIT, -LIMIT, 2.0, 0.0]


def test_a_time_becomes_its_age_in_doublings() -> None:
    asked, second = 1_700_000_000_000_000, 1_000_000
    at = torch.tensor([asked - 8 * second, asked - second // 2, asked + second, 0])  # 0 is a missing time
    x = raw_numbers(at, Dense(column="at", transform="age"), torch.full((4,), asked))
    assert x[:, 0].tolist() == pytest.approx([3.0, 0.0, 0.0, float("nan")], nan_ok=True)


def test_a_list_of_numbers_is_the_mean_of_those_known() -> None:
    lists = Jagged(torch.tensor([1.0, torch.nan, 3.0, torch.nan]), torch.tensor([0, 3, 3, 4]))
    x = raw_numbers(lists, Dense(column="x"), torch.zeros(3, dtype=torch.int64))
    assert x[:, 0].tolist() == pytest.approx([2.0, float("nan"), float("nan")], nan_ok=True)


def test_heavy_tailed_counts_are_taken_in_log() -> None:
    found, rng = Statistics(), np.random.default_rng(0)
    for _ in range(5):
        count = torch.tensor(np.floor(np.exp(rng.normal(3, 1.5, 200))))[:, None]
        found.add({"count": count, "year": 1950 + count.clamp(max=60), "debt": -count, "hour": count % 24})
    assert [name for name, column in found.columns.items() if column.prefers_log] == ["count"]


PARTS = st.lists(
    arrays.arrays(
        np.float64, st.tuples(st.integers(0, 20), st.just(2)), elements=st.floats(-1e3, 1e3) | st.just(np.nan)
    ),
    min_size=1,
    max_size=5,
)


@given(PARTS)
def test_moments_do_not_depend_on_the_batches(parts: list[np.ndarray]) -> None:
    moments = Moments.none(2)
    for part in parts:
        moments.add(torch.from_numpy(part))
    whole = np.concatenate(parts)
    for i in range(2):
        known = whole[:, i][~np.isnan(whole[:, i])]
        assert moments.count[i] == len(known)
        if len(known):
            assert moments.mean[i].item() == pytest.approx(known.mean(), rel=1e-9, abs=1e-9)
            assert moments.second[i].item() == pytest.approx(((known - known.mean()) ** 2).sum(), rel=1e-6, abs=1e-6)
            assert moments.third[i].item() == pytest.approx(((known - known.mean()) ** 3).sum(), rel=1e-6, abs=1e-1)


def test_a_column_that_does_not_vary_is_zero() -> None:
    column = Column(Moments.none(1), Moments.none(1))
    column.add(torch.full((9, 1), 0.1, dtype=torch.float64))
    assert column.plain.std.tolist() == [1.0]
    assert not column.prefers_log


def test_nothing_to_train_on_is_named() -> None:
    with pytest.raises(TrainingError, match="no candidates to train on"):
        fit(describe(SPECS["feed"]), [])


def test_unknown_labels_and_padding_weigh_nothing() -> None:
    from training.losses import task_losses, total_loss

    batch = request_batch("video", users=4)
    tasks = fit(describe(SPECS["video"]), [batch]).tasks
    logits = torch.randn(batch.C, 2, dtype=torch.float64, requires_grad=True)
    total_loss(*task_losses(logits, batch, tasks), tasks).backward()
    unknown = batch.candidates["finished"].isnan()
    assert unknown.any()
    assert (logits.grad[unknown, 0] == 0).all()
    assert (logits.grad[~unknown, 0] != 0).all()
    padded = dataclasses.replace(batch, padding=2)
    weight = padded.weight[padded.request_index]
    real = batch.slice(0, batch.R - 2)
    sums, counts = task_losses(logits, padded, tasks, weight)
    expected = task_losses(logits[: real.C], real, tasks)
    assert torch.allclose(sums, expected[0])
    assert torch.equal(counts, expected[1])


def test_a_batch_of_another_order_trains_the_same_numbers() -> None:
    """Batches of one request each give the statistics of the whole."""
    batch = request_batch("video", users=5)
    whole = fit(describe(SPECS["video"]), [batch])
    ones: list[RequestBatch] = [batch.slice(i, i + 1) for i in reversed(range(batch.R))]
    parts = fit(describe(SPECS["video"]), ones)
    for a, b in zip(
        (*whole.request_dense, *whole.candidate_dense), (*parts.request_dense, *parts.candidate_dense), strict=True
    ):
        assert (a.column, a.transform, a.missing) == (b.column, b.transform, b.missing)
        assert a.mean == pytest.approx(b.mean)
        assert a.std == pytest.approx(b.std)
