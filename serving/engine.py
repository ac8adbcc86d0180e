"""The engine: a loaded export that scores requests in this process, within a bound of tokens a pass.

A batch is cut where its history tokens or its candidates reach their budgets; a request with more candidates than a
pass takes keeps its context and crosses several times. What a request is batched with does not change its score by
more than `TOLERANCE`: the same sums in another order.
Shapes: R requests, C candidates, T history tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from feature_reader import RequestBatch
from serving.errors import ServingError
from serving.requests import batch_of
from training.export import Export, load_export
from training.models import Ranker
from training.models.ranker import Context
from training.ops import CrossingPlan

TOLERANCE = 1e-5
"""How far apart the scores of one request may lie in two batches: float32 sums in another order."""

Scores = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Budget:
    """The most of each that one pass takes; a single request's history may exceed `tokens`, as it cannot be cut."""

    tokens: int = 1 << 15
    candidates: int = 1 << 13


class Engine:
    """Scores requests with one version of a model. Not changed after it is made, so threads may share it."""

    def __init__(self, export: Export, *, device: str = "cpu", budget: Budget | None = None) -> None:
        self.model: Ranker = export.model.to(device)
        self.version, self.spec, self.device = export.version, export.spec, device
        self.budget = budget or Budget()
        if self.budget.tokens < 1 or self.budget.candidates < 1:
            raise ServingError(f"{self.budget}: a pass takes at least one token and one candidate")

    @classmethod
    def load(cls, folder: Path | str, *, device: str = "cpu", budget: Budget | None = None) -> Engine:
        """The engine of an export's folder (`RUN/export`). Raises CheckpointError, FormatError."""
        return cls(load_export(Path(folder), device), device=device, budget=budget)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that a batch has to have, keys apart."""
        return self.model.inputs.columns

    @property
    def tasks(self) -> tuple[str, ...]:
        """The labels that scores are given for, the first being what a ranking sorts by."""
        return tuple(task.label for task in self.model.inputs.tasks)

    @torch.inference_mode()
    def score(self, batch: RequestBatch) -> Scores:
        """Scores [C] of each task, in the batch's order: probabilities, or the label's own unit."""
        missing = [c for c in self.columns if c not in batch.request and c not in batch.candidates]
        if missing:
            raise ServingError(f"the batch has no {', '.join(missing)}: read it with the engine's columns")
        batch = batch.torch()
        parts = [self._pass(part) for part in self._cuts(batch)]
        if not parts:
            return {task: np.zeros(0, np.float32) for task in self.tasks}
        found = self.model.predict(torch.cat(parts))
        return {task: values.float().cpu().numpy() for task, values in found.items()}

    def rank(self, requests: Sequence[Mapping[str, Any]]) -> list[list[dict[str, Any]]]:
        """Each request's candidates, best first: `item_id`, `position` and `score` by task.

        A request is a dict as serving.requests describes it. Raises RequestError that names the request and the field.
        """
        batch = batch_of(requests, self.spec, self.columns)
        scores = self.score(batch)
        offsets, positions = batch.candidate_offsets, np.asarray(batch.candidates["position"])
        out = []
        for i, request in enumerate(requests):
            own = range(int(offsets[i]), int(offsets[i + 1]))
            rows = [
                {
                    "item_id": request["item_id"][c - own.start],
                    "position": int(positions[c]),
                    "score": {task: float(values[c]) for task, values in scores.items()},
                }
                for c in own
            ]
            out.append(sorted(rows, key=lambda row: -row["score"][self.tasks[0]]))
        return out

    def _cuts(self, batch: RequestBatch) -> Iterator[RequestBatch]:
        """Runs of requests that fit the budget, at least one request each."""
        history = self.model.inputs.history
        lengths = batch.candidate_offsets.new_zeros(batch.R)
        if history is not None:
            lengths = batch.request[history.first].lengths.clamp(max=self.model.config.history_length)
        tokens, candidates = lengths.cumsum(0).tolist(), batch.candidate_offsets[1:].tolist()
        start = used_tokens = used_candidates = 0
        for i in range(batch.R):
            full = (
                tokens[i] - used_tokens > self.budget.tokens or candidates[i] - used_candidates > self.budget.candidates
            )
            if full and i > start:
                yield batch.slice(start, i)
                start, used_tokens, used_candidates = i, tokens[i - 1], candidates[i - 1]
        if start < batch.R:
            yield batch.slice(start, batch.R)

    def _pass(self, batch: RequestBatch) -> torch.Tensor:
        """Logits [C, K]: one context, and as many crossings as the candidates need."""
        seen = self.model.window(batch, self.device)
        placed = batch.to(self.device)
        context = self.model.context(placed, seen)
        if self.budget.candidates >= batch.C:
            return self.model.cross(placed, context, seen.plan)
        return torch.cat([self._cross(placed, context, start) for start in range(0, batch.C, self.budget.candidates)])

    def _cross(self, batch: RequestBatch, context: Context, start: int) -> torch.Tensor:
        """Logits of up to a budget of candidates from `start` on, over the same context."""
        stop = min(start + self.budget.candidates, batch.C)
        offsets = batch.candidate_offsets.clamp(start, stop) - start
        some = replace(
            batch,
            candidates={name: _rows(column, start, stop) for name, column in batch.candidates.items()},
            candidate_offsets=offsets,
        )
        plan = CrossingPlan.build(context.plan.context_offsets, offsets.cpu(), self.device)
        return self.model.cross(some, context, plan)


def _rows(column: Any, start: int, stop: int) -> Any:
    """Rows start … stop-1 of a scalar, vector or ragged column."""
    if isinstance(column, torch.Tensor):
        return column[start:stop]
    offsets = column.offsets[start : stop + 1]
    return replace(column, values=column.values[offsets[0] : offsets[-1]], offsets=offsets - offsets[0])
