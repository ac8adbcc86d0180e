"""What a run is told: the data, the model and how it is trained. Saved in the run's folder."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from training.errors import TrainingError
from training.models import RankerConfig


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A training run. The defaults are those that MovieLens asked for (docs/training.md)."""

    table: str
    """The request table, as in `reqlake.movielens_requests`."""
    run: Path | None = None
    """Folder of the run; `<home>/runs/<dataset>-<time>` by default."""
    snapshot_id: int | None = None
    """What to read instead of the current snapshot."""
    skip_requests: Path | None = None
    """Keys of requests to leave out (feature_reader.SkipRequests); the run keeps a copy of them."""
    history: str | None = None
    """The sequence to attend to, the first by default; the others are mean-pooled."""
    task_weights: dict[str, float] = field(default_factory=dict)
    """Weights of labels; by default 1 for a probability, 0.3 for a number; 0 leaves one out."""
    validation_share: float = 0.1
    """Share of the requests, by time, that chooses the epoch."""
    test_share: float = 0.1
    """Share of the requests, the latest, that training never sees."""
    epochs: int = 6
    batch_requests: int = 64
    """Requests of a step, over all ranks."""
    learning_rate: float = 2e-3
    """The highest, reached after `warmup_share` of all steps; then it falls along a cosine."""
    warmup_share: float = 0.1
    weight_decay: float = 0.05
    clip: float = 1.0
    """Greatest norm of the gradient."""
    seed: int = 0
    device: str = "cpu"
    reader_threads: int = 2
    checkpoint_steps: int = 250
    """Steps between checkpoints; there is one at the end of each epoch as well."""
    model: RankerConfig = field(default_factory=RankerConfig)

    def __post_init__(self) -> None:
        """Raises TrainingError for numbers that cannot train."""
        positive = ("epochs", "batch_requests", "learning_rate", "clip", "reader_threads", "checkpoint_steps")
        for name in positive:
            if getattr(self, name) <= 0:
                raise TrainingError(f"{name} is {getattr(self, name)}: give a number above 0")
        if not 0 < self.warmup_share < 1:
            raise TrainingError(f"warmup_share is {self.warmup_share}: give a number between 0 and 1")
        if self.model.width % self.model.heads:
            raise TrainingError(f"model.width {self.model.width} is not a multiple of its {self.model.heads} heads")

    def to_json(self) -> dict[str, Any]:
        """As JSON's types."""
        paths = {"run": self.run, "skip_requests": self.skip_requests}
        return dataclasses.asdict(self) | {name: str(path) if path else None for name, path in paths.items()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> TrainConfig:
        """What `to_json` wrote."""
        paths = {name: Path(data[name]) if data.get(name) else None for name in ("run", "skip_requests")}
        return cls(**data | paths | {"model": RankerConfig(**data["model"])})
