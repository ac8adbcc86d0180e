"""The same with the Trainer of Hugging Face's transformers.

The Trainer would find its place by reading an epoch again up to it (`ignore_data_skip=False`); here the reader's state
lies in each of its checkpoints, and nothing is read twice.

    REQLAKE_HOME=build/demo/lake python docs/examples/with_hugging_face.py reqlake.movielens_requests run --label like
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from click_model import ClickModel
from transformers import Trainer, TrainerCallback, TrainingArguments

from feature_reader import Reader, RequestBatch
from feature_reader.torch import RequestLoader
from lakehouse.settings import load_settings

STATE = "reader.json"


class ClickTrainer(Trainer):
    """A Trainer that takes its batches from a RequestLoader."""

    def __init__(self, loader: RequestLoader, **options: Any) -> None:
        super().__init__(**options)
        self.loader = loader

    def get_train_dataloader(self) -> Any:
        """The loader as it is: it shards, shuffles and moves batches by itself."""
        return self.loader

    def compute_loss(self, model: Any, inputs: RequestBatch, *_: Any, **__: Any) -> torch.Tensor:
        """The loss of one batch."""
        loss: torch.Tensor = model.loss(inputs)
        step = self.state.global_step + 1
        print(f"step {step} request {int(inputs['request_id'][0])} loss {loss.item():.9f}", flush=True)
        return loss


class SaveReader(TrainerCallback):
    """Writes the reader's state into each checkpoint, last, so that it also says that the checkpoint is whole."""

    def __init__(self, loader: RequestLoader) -> None:
        self.loader = loader

    def on_save(self, args: TrainingArguments, state: Any, *_: Any, **__: Any) -> None:
        """Called when a checkpoint lies in its folder."""
        folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
        part = folder / f"{STATE}.part"
        part.write_text(json.dumps(self.loader.state_dict()))
        part.replace(folder / STATE)


def train(
    table: str, run: Path, *, history: str, label: str, epochs: int = 2, batch_requests: int = 64, save_every: int = 50
) -> None:
    """Train, saving to `run/checkpoint-<step>`; from the last whole one if there is one."""
    columns = ["request_id", "item_id", history, label]
    reader = Reader.open(load_settings(), table, batch_requests=batch_requests, columns=columns)
    loader = RequestLoader(reader)
    torch.manual_seed(0)
    model = ClickModel(history, label)
    arguments = TrainingArguments(
        output_dir=str(run),
        num_train_epochs=epochs,
        save_steps=save_every,
        save_total_limit=2,
        ignore_data_skip=True,
        report_to="none",
        disable_tqdm=True,
        logging_strategy="no",
        use_cpu=not torch.cuda.is_available(),
    )
    trainer = ClickTrainer(loader, model=model, args=arguments, callbacks=[SaveReader(loader)])
    whole = sorted(run.glob(f"checkpoint-*/{STATE}"), key=lambda file: int(file.parent.name.partition("-")[2]))
    if whole:
        loader.load_state_dict(json.loads(whole[-1].read_text()))
    trainer.train(resume_from_checkpoint=str(whole[-1].parent) if whole else None)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table")
    parser.add_argument("run", type=Path)
    parser.add_argument("--history", default="history_item_id")
    parser.add_argument("--label", default="click")
    given = parser.parse_args()
    train(given.table, given.run, history=given.history, label=given.label)
