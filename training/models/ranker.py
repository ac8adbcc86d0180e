"""The DCAT ranker: everything of a request once, each candidate one token.

    history ─ tokens_TD ─ context ─ K, V of each layer (once per request) ─┐
    candidates ─ tokens_CD ───────── crossing, the same weights ───────────┴─ head_CK ─ one logit a task
    request features, other sequences, pooled (once per request) ─ expanded at the head

The head reads [candidate token, what the request is, the candidate's numbers] and has a linear skip from the numbers.
Shapes: R requests, C candidates, T history tokens, D width, F numbers, K tasks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from training.models.block import Block
from training.models.description import ModelInputs
from training.models.embedding import Embeddings
from training.models.tokens import CandidateTokens, EventTokens
from training.models.values import Batch, LinearOfNumbers, numbers, segment_mean, width
from training.models.window import Window, window
from training.ops import CrossingPlan, segment_expand


@dataclass(frozen=True, kw_only=True)
class RankerConfig:
    """The size of a ranker, and how much training forgets (docs/training.md tells why so much)."""

    width: int = 32
    """D, of tokens."""
    layers: int = 2
    heads: int = 2
    history_length: int = 128
    """Latest events of a history that become tokens."""
    head_width: int = 64
    sub_tables: int = 2
    """Hashes of an id."""
    dropout: float = 0.1
    """Inside blocks and head. Drawn once per request for what is computed once per request."""
    embedding_dropout: float = 0.5
    id_dropout: float = 0.5
    """Share of the ids of events and candidates that a step does not see."""
    history_dropout: float = 0.5
    """Greatest share of a request's history that a step does not see."""


@dataclass(frozen=True)
class Context:
    """What the crossing needs of R requests: computed once, read by every candidate."""

    plan: CrossingPlan
    layers: tuple[tuple[torch.Tensor, torch.Tensor], ...]
    """K and V [T, H, D / H] of each layer."""
    read: torch.Tensor
    """[R, E]: what the head reads of a request."""
    numbers: torch.Tensor
    """[R, F]: its numbers alone, for the skip."""


class Ranker(nn.Module):
    """Logits [C, K] of a batch's candidates, in their order; `predict` turns them into the labels' units."""

    def __init__(self, inputs: ModelInputs, config: RankerConfig) -> None:
        super().__init__()
        self.inputs, self.config, D = inputs, config, config.width
        self.embeddings = Embeddings(
            inputs.tables,
            D,
            sub_tables=config.sub_tables,
            id_dropout=config.id_dropout,
            dropout=config.embedding_dropout,
        )
        self.history = EventTokens(inputs.history, D) if inputs.history else None
        self.pooled = nn.ModuleDict({s.name: EventTokens(s, D) for s in inputs.pooled})
        self.candidate = CandidateTokens(inputs, D)
        self.place = nn.Embedding(config.history_length + 1, D)
        nn.init.normal_(self.place.weight, std=0.05)
        self.blocks = nn.ModuleList(Block(D, config.heads, config.dropout) for _ in range(config.layers))
        request_F, candidate_F = width(inputs.request_dense), width(inputs.candidate_dense)
        read = D + candidate_F + request_F + D * (len(inputs.request_lookups) + len(inputs.pooled))
        self.head = nn.Sequential(
            nn.LayerNorm(read),
            nn.Linear(read, config.head_width),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.head_width, len(inputs.tasks)),
        )
        self.skip = LinearOfNumbers(candidate_F + request_F, len(inputs.tasks))

    def forward(self, batch: Batch, seen: Window | None = None) -> torch.Tensor:
        """Logits [C, K]. `seen` is `self.window(batch)`, made ahead where the batch is already on a device."""
        seen = seen or self.window(batch)
        return self.cross(batch, self.context(batch, seen), seen.plan)

    def window(self, batch: Batch, device: torch.device | str | None = None) -> Window:
        """Which events become tokens; training forgets some. Made on the host, for a batch that will be on `device`."""
        drop = self.config.history_dropout if self.training else 0.0
        return window(batch, self.inputs.history, self.config.history_length, drop, device)

    def context(self, batch: Batch, seen: Window) -> Context:
        """The pass that runs once per request."""
        layers = []
        x_TD = self.history_tokens(batch, seen)
        for i, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            x_TD, k, v = block.context(x_TD, seen.plan, last=i == len(self.blocks) - 1)
            layers.append((k, v))
        request_RF = self.request_numbers(batch)
        return Context(seen.plan, tuple(layers), torch.cat([request_RF, *self.request_vectors(batch)], 1), request_RF)

    def cross(self, batch: Batch, context: Context, plan: CrossingPlan) -> torch.Tensor:
        """Logits [C, K] of the candidates of `batch`, which `plan` lays out over the context's requests."""
        dense_CF, x_CD = self.candidate_tokens(batch, plan.request_index)
        for block, (k, v) in zip(self.blocks, context.layers, strict=True):
            assert isinstance(block, Block)
            x_CD = block.cross(x_CD, k, v, plan)
        request_CE, request_CF = segment_expand(context.read, plan), segment_expand(context.numbers, plan)
        return self.heads(x_CD, dense_CF, request_CE, request_CF)

    def heads(
        self, x_CD: torch.Tensor, dense_CF: torch.Tensor, request_CE: torch.Tensor, request_CF: torch.Tensor
    ) -> torch.Tensor:
        """Logits [C, K] from the candidates' last tokens."""
        read = torch.cat([x_CD, dense_CF, request_CE], 1)
        return self.head(read) + self.skip(torch.cat([dense_CF, request_CF], 1))  # type: ignore[no-any-return]

    def history_tokens(self, batch: Batch, seen: Window) -> torch.Tensor:
        """[T, D] of the events in the window."""
        if self.history is None:
            return self.place.weight[:0]
        asked = batch_time(batch)[torch.repeat_interleave(seen.plan.context_offsets.diff()).to(seen.rows.device)]
        return self.history(batch, self.embeddings, seen.rows, asked) + self.place(seen.position)  # type: ignore[no-any-return]

    def candidate_tokens(self, batch: Batch, request_index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The candidates' numbers [C, F] and tokens [C, D]."""
        asked = batch_time(batch)[request_index]
        dense_CF = numbers(self.inputs.candidate_dense, batch.candidates.__getitem__, asked, self.place.weight.dtype)
        x_CD = self.candidate(dense_CF, batch, self.embeddings) + self.place.weight[0]
        if self.history is not None:
            x_CD = x_CD + self.history.of_candidates(batch, self.embeddings, asked)
        return dense_CF, x_CD

    def request_numbers(self, batch: Batch) -> torch.Tensor:
        """[R, F] of the request's own numbers."""
        asked = batch_time(batch)
        return numbers(self.inputs.request_dense, batch.request.__getitem__, asked, self.place.weight.dtype)

    def request_vectors(self, batch: Batch) -> list[torch.Tensor]:
        """[R, D] of each of the request's ids, and of each other sequence's events on average."""
        vectors = [self.embeddings(batch.request[x.column], x.table) for x in self.inputs.request_lookups]
        for sequence in self.inputs.pooled:
            events = batch.request[sequence.first]
            assert not isinstance(events, torch.Tensor)
            asked = torch.repeat_interleave(batch_time(batch), events.offsets.diff())
            rows = torch.arange(len(events.values), device=asked.device)
            tokens = self.pooled[sequence.name](batch, self.embeddings, rows, asked)
            vectors.append(segment_mean(tokens, events.offsets))
        return vectors

    def predict(self, logits_CK: torch.Tensor) -> dict[str, torch.Tensor]:
        """[C] of each task by label: probabilities for `bce`, the label's own unit for `mse`."""
        out = {}
        for k, task in enumerate(self.inputs.tasks):
            z = logits_CK[:, k]
            out[task.label] = z.sigmoid() if task.loss == "bce" else z * task.std + task.mean
        return out


def batch_time(batch: Batch) -> torch.Tensor:
    """[R] int64 microseconds of each request."""
    asked = batch.request["request_ts"]
    assert isinstance(asked, torch.Tensor)
    return asked
