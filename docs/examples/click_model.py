"""The model of the examples: an item beside the mean of the request's history, which is computed once a request."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from feature_reader import RequestBatch


class ClickModel(nn.Module):
    """Scores each candidate [C]; `history` and `label` are columns of the batch."""

    def __init__(self, history: str, label: str, rows: int = 1 << 14, dim: int = 16) -> None:
        super().__init__()
        self.history, self.label = history, label
        self.items = nn.Embedding(rows, dim)

    def forward(self, batch: RequestBatch) -> Tensor:
        """Logits [C]."""
        rows, history = self.items.num_embeddings, batch[self.history]
        mean_RD = functional.embedding_bag(history.values % rows, self.items.weight, history.offsets[:-1], mode="mean")
        item_CD = self.items(batch["item_id"] % rows)
        return (item_CD * mean_RD[batch.request_index]).sum(-1)

    def loss(self, batch: RequestBatch) -> Tensor:
        """Cross entropy over the candidates whose label is known; padding has no weight."""
        label_C = batch[self.label]
        weight_C = batch.weight[batch.request_index] * ~label_C.isnan()
        each_C = functional.binary_cross_entropy_with_logits(self(batch), label_C.nan_to_num(), reduction="none")
        return (each_C * weight_C).sum() / weight_C.sum().clamp(min=1)
