"""The theorem: the deduplicated ranker equals its duplicated twin in loss, outputs and all gradients."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch

from feature_reader.batch import Jagged, RequestBatch
from tests.training.batches import as_dtype, ranker, request_batch
from training.losses import task_losses, total_loss
from training.models.naive import duplicate, duplicated_forward
from training.models.ranker import Ranker

Result = tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]


def run(model: Ranker, batch: RequestBatch, duplicated: bool) -> Result:
    """Loss, outputs and gradients by parameter."""
    model.zero_grad()
    rows = duplicate(batch) if duplicated else batch
    logits = duplicated_forward(model, rows) if duplicated else model(batch)
    loss = total_loss(*task_losses(logits, rows, model.inputs.tasks), model.inputs.tasks)
    loss.backward()
    return (
        loss.detach(),
        logits.detach(),
        {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None},
    )


def worst_error(one: Result, two: Result) -> float:
    """The largest relative error of loss, outputs and each parameter's gradient."""
    assert one[2].keys() == two[2].keys()
    pairs = [(one[0], two[0]), (one[1], two[1]), *((one[2][n], two[2][n]) for n in one[2])]
    return max(float((a - b).norm() / b.norm().clamp(min=1e-12)) for a, b in pairs)


@pytest.fixture(params=["feed", "shop", "video"])
def case(request: pytest.FixtureRequest) -> tuple[Ranker, RequestBatch]:
    """Each dataset's ranker with a batch of ragged fan-out and histories, some of them empty."""
    batch = request_batch(request.param, users=6, requests_per_user=3, fanout=3, history=6)
    model = ranker(request.param, batch)
    assert model.inputs.history is not None
    history = batch.request[model.inputs.history.first]
    assert int(history.lengths.min()) == 0 < int(history.lengths.max())
    assert len(set(batch.candidate_offsets.diff().tolist())) > 1
    return model, batch


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-9), (torch.float32, 1e-5)], ids=["fp64", "fp32"])
def test_deduplicated_equals_duplicated(case: tuple[Ranker, RequestBatch], dtype: torch.dtype, limit: float) -> None:
    model, batch = case
    model, batch = copy.deepcopy(model).to(dtype), as_dtype(batch, dtype)
    assert worst_error(run(model, batch, duplicated=False), run(model, batch, duplicated=True)) < limit


def test_every_parameter_has_a_gradient(case: tuple[Ranker, RequestBatch]) -> None:
    """So that the comparison above compares something; a map of no numbers has an empty weight."""
    model, batch = case
    _, _, gradients = run(model, batch, duplicated=False)
    assert {n for n, p in model.named_parameters() if p.numel()} == {n for n, g in gradients.items() if g.any()}


def test_a_planted_fault_is_seen(case: tuple[Ranker, RequestBatch]) -> None:
    """A history that is one event short, the fault that a mean loss hardly shows."""
    model, batch = case
    model, batch = copy.deepcopy(model).double(), as_dtype(batch, torch.float64)
    right = run(model, batch, duplicated=False)
    assert worst_error(right, run(model, one_event_short(model, batch), duplicated=True)) > 1e-3


def one_event_short(model: Ranker, batch: RequestBatch) -> RequestBatch:
    """The batch without the latest event of each attended history."""
    assert model.inputs.history is not None
    request = dict(batch.request)
    old = batch.request[model.inputs.history.first].offsets
    lengths = old.diff()
    keep = torch.ones(int(old[-1]), dtype=torch.bool)
    keep[(old[1:] - 1)[lengths > 0]] = False
    offsets = torch.cat([old[:1], (lengths - 1).clamp(min=0).cumsum(0)])
    for name in model.inputs.history.columns:
        request[name] = Jagged(batch.request[name].values[keep], offsets)
    return dataclasses.replace(batch, request=request)
