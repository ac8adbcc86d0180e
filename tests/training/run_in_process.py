"""`python -m tests.training.run_in_process HOME RUN [resume]`: a training run in a process that a test can kill."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import torch

from lakehouse.settings import load_settings
from tests.training.batches import STILL, forgetful
from training.config import TrainConfig
from training.loop import resume, train
from training.progress import Silence, Step

CONFIG = TrainConfig(
    table="reqlake.feed_requests",
    epochs=3,
    batch_requests=8,
    checkpoint_steps=4,
    learning_rate=1e-2,
    model=forgetful(STILL),
)


class Steps(Silence):
    """Prints each step, so that a test knows when to kill."""

    def stepped(self, step: Step) -> None:
        print(f"step {step.step} of {step.steps}", flush=True)


def main(home: str, run: str, how: str = "train") -> None:
    """Train or resume."""
    torch.set_num_threads(1)
    settings = load_settings(home=home)
    if how == "resume":
        resume(Path(run), settings, Steps())
    else:
        train(dataclasses.replace(CONFIG, run=Path(run)), settings, Steps())


if __name__ == "__main__":
    main(*sys.argv[1:])
