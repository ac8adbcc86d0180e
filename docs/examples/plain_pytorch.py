"""A training loop that goes on where it was killed, with nothing but PyTorch.

REQLAKE_HOME=build/demo/lake python docs/examples/plain_pytorch.py reqlake.movielens_requests run --label like
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from click_model import ClickModel

from feature_reader import Reader
from feature_reader.torch import RequestLoader
from lakehouse.settings import load_settings


def train(
    table: str, run: Path, *, history: str, label: str, epochs: int = 2, batch_requests: int = 64, save_every: int = 50
) -> None:
    """Train, saving to `run/checkpoint.pt`; from there if it is there."""
    columns = ["request_id", "item_id", history, label]
    reader = Reader.open(load_settings(), table, batch_requests=batch_requests, columns=columns)
    loader = RequestLoader(reader)
    torch.manual_seed(0)
    model = ClickModel(history, label)
    optimizer = torch.optim.Adam(model.parameters())
    step = 0
    file = run / "checkpoint.pt"
    if file.exists():
        saved = torch.load(file, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        loader.load_state_dict(saved["reader"])
        step = saved["step"]
    while reader.epoch < epochs:
        for batch in loader:
            loss = model.loss(batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            print(f"step {step} request {int(batch['request_id'][0])} loss {loss.item():.9f}", flush=True)
            if step % save_every == 0:
                parts = {"model": model, "optimizer": optimizer, "reader": loader}
                save(file, {name: part.state_dict() for name, part in parts.items()} | {"step": step})


def save(file: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint that is whole or not there, whenever the process is killed."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    torch.save(state, part)
    part.replace(file)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table")
    parser.add_argument("run", type=Path)
    parser.add_argument("--history", default="history_item_id")
    parser.add_argument("--label", default="click")
    given = parser.parse_args()
    train(given.table, given.run, history=given.history, label=given.label)
