"""Small batches of the three datasets, and rankers for them."""

from __future__ import annotations

import dataclasses

import torch

from feature_reader import RequestBatch
from serving.requests import batch_of
from tests.support.datasets import SPECS, raw_log, reference_requests
from training.inputs import describe, fit
from training.models.ranker import Ranker, RankerConfig

# Tests run beside others on few cores, where torch's threads would wait for each other.
torch.set_num_threads(1)

STILL = RankerConfig(
    width=16, history_length=8, head_width=8, dropout=0.0, embedding_dropout=0.0, id_dropout=0.0, history_dropout=0.0
)
"""A ranker that forgets nothing."""


def request_batch(name: str, **sizes: int) -> RequestBatch:
    """A dataset's requests as one batch of torch tensors, fan-out and history ragged."""
    spec = SPECS[name]
    rows = reference_requests(raw_log(spec, **sizes), spec).to_pylist()
    read = [c.name for c in spec.columns("request", "sequence", "candidate", "label") if c.name in spec_columns(name)]
    return batch_of([{k: v for k, v in row.items() if not k.endswith("_raw")} for row in rows], spec, read).torch()


def spec_columns(name: str) -> set[str]:
    """Columns that a model of this dataset reads, labels included."""
    inputs = describe(SPECS[name])
    return set(inputs.columns) | {t.label for t in inputs.tasks}


def ranker(name: str, batch: RequestBatch, config: RankerConfig = STILL, seed: int = 0) -> Ranker:
    """A ranker of this dataset, standardised by the batch, with random weights."""
    torch.manual_seed(seed)
    return Ranker(fit(describe(SPECS[name]), [batch]), config)


def as_dtype(batch: RequestBatch, dtype: torch.dtype) -> RequestBatch:
    """The batch with its floats in another precision."""
    return batch.map(lambda x: x.to(dtype) if x.is_floating_point() else x)


def forgetful(config: RankerConfig = STILL) -> RankerConfig:
    """The same size, with every dropout on."""
    return dataclasses.replace(config, dropout=0.1, embedding_dropout=0.5, id_dropout=0.5, history_dropout=0.5)
