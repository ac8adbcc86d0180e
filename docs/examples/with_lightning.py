"""The same with Lightning, which saves and loads the reader's state with its own checkpoints.

REQLAKE_HOME=build/demo/lake python docs/examples/with_lightning.py reqlake.movielens_requests run --label like
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import lightning
import torch
from click_model import ClickModel
from lightning.pytorch.callbacks import ModelCheckpoint

from feature_reader import Reader, RequestBatch
from feature_reader.torch import RequestLoader
from lakehouse.settings import load_settings


class Clicks(lightning.LightningModule):
    """The click model for Lightning."""

    def __init__(self, history: str, label: str) -> None:
        super().__init__()
        self.model = ClickModel(history, label)

    def training_step(self, batch: RequestBatch, _index: int) -> torch.Tensor:
        """The loss of one batch."""
        loss = self.model.loss(batch)
        step = self.trainer.global_step + 1
        print(f"step {step} request {int(batch['request_id'][0])} loss {loss.item():.9f}", flush=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam."""
        return torch.optim.Adam(self.parameters())


def train(
    table: str, run: Path, *, history: str, label: str, epochs: int = 2, batch_requests: int = 64, save_every: int = 50
) -> None:
    """Train, saving to `run/last.ckpt`; from there if it is there."""
    columns = ["request_id", "item_id", history, label]
    reader = Reader.open(load_settings(), table, batch_requests=batch_requests, columns=columns)
    torch.manual_seed(0)
    saving = ModelCheckpoint(run, every_n_train_steps=save_every, save_last=True, enable_version_counter=False)
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = lightning.Trainer(max_epochs=epochs, callbacks=[saving], use_distributed_sampler=False, **quiet)
    last = run / "last.ckpt"
    trainer.fit(Clicks(history, label), RequestLoader(reader), ckpt_path=last if last.exists() else None)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table")
    parser.add_argument("run", type=Path)
    parser.add_argument("--history", default="history_item_id")
    parser.add_argument("--label", default="click")
    given = parser.parse_args()
    train(given.table, given.run, history=given.history, label=given.label)
