"""Checkpoints: all that a run needs to go on as if it had never stopped. Safetensors and JSON, no pickle.

    run/
      run.json                  what was asked, on which snapshot, split how, with which inputs
      checkpoints/step-00000142/
        state.json              step, reader state, epochs so far, optimizer settings
        model.safetensors, best.safetensors, optimizer.safetensors
      exports/<version>/        the best model, for serving; `export` points at it

The schedule is a function of the step, and each step seeds its own random numbers by (seed, step, rank), so neither
has a state to keep. A folder is renamed into its place when it is whole (training.folders).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from training.errors import CheckpointError
from training.export import check_format, read_json
from training.folders import remove_folder, write_folder
from training.models import Ranker

FORMAT = 1
KEPT = 2
STATE = "state.json"
Weights = dict[str, torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """What one epoch came to. `validation` is the first task's loss over that of the best constant: least is best."""

    epoch: int
    step: int
    loss: float
    validation: float
    validation_auc: float
    seconds: float


@dataclass
class TrainState:
    """Where a run stands, but for model and optimizer."""

    step: int = 0
    reader: dict[str, Any] = field(default_factory=dict)
    epochs: list[Epoch] = field(default_factory=list)
    best: Weights | None = None
    """Weights of the epoch with the least validation loss."""
    loss_sum: float = 0.0
    loss_steps: int = 0
    seconds: float = 0.0
    """Of training, over all processes that took part one after the other."""

    @property
    def best_epoch(self) -> Epoch | None:
        """The epoch with the least validation loss."""
        return min(self.epochs, key=lambda e: e.validation, default=None)


def folder_of(run: Path) -> Path:
    """Where a run's checkpoints lie."""
    return run / "checkpoints"


def latest_checkpoint(run: Path) -> Path | None:
    """The checkpoint with the most steps."""
    return max(folder_of(run).glob("step-*"), key=lambda p: p.name, default=None)


def save_checkpoint(run: Path, model: Ranker, optimizer: torch.optim.Optimizer, state: TrainState) -> Path:
    """Write the checkpoint of this step and drop all but the latest two. A step that is there already stays."""
    path = folder_of(run) / f"step-{state.step:08d}"
    saved = optimizer.state_dict()
    moments = {f"{i}.{name}": value for i, values in saved["state"].items() for name, value in values.items()}
    document = {
        "format": FORMAT,
        "step": state.step,
        "reader": state.reader,
        "epochs": [asdict(epoch) for epoch in state.epochs],
        "loss_sum": state.loss_sum,
        "loss_steps": state.loss_steps,
        "seconds": state.seconds,
        "optimizer": saved["param_groups"],
        "has_best": state.best is not None,
    }

    def write(partial: Path) -> None:
        save_file(contiguous(model.state_dict()), partial / "model.safetensors")
        save_file(contiguous(moments), partial / "optimizer.safetensors")
        if state.best is not None:
            save_file(contiguous(state.best), partial / "best.safetensors")
        (partial / STATE).write_text(json.dumps(document, indent=1), encoding="utf-8")

    write_folder(path, write)
    for old in sorted(folder_of(run).glob("step-*"))[:-KEPT]:
        remove_folder(old)
    return path


def load_checkpoint(path: Path, model: Ranker, optimizer: torch.optim.Optimizer) -> TrainState:
    """Put a checkpoint into model and optimizer. Raises CheckpointError, or FormatError if it is newer."""
    document = read_json(path / STATE, "a checkpoint")
    check_format(document, path, "checkpoint")
    try:
        model.load_state_dict(load_file(path / "model.safetensors"))
        state: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in load_file(path / "optimizer.safetensors").items():
            index, _, moment = name.partition(".")
            state.setdefault(int(index), {})[moment] = value
        groups = [group | {"betas": tuple(group["betas"])} for group in document["optimizer"]]
        optimizer.load_state_dict({"state": state, "param_groups": groups})
        return TrainState(
            step=document["step"],
            reader=document["reader"],
            epochs=[Epoch(**epoch) for epoch in document["epochs"]],
            best=load_file(path / "best.safetensors") if document["has_best"] else None,
            loss_sum=document["loss_sum"],
            loss_steps=document["loss_steps"],
            seconds=document["seconds"],
        )
    except (OSError, SafetensorError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path} cannot be loaded: {error}. Remove the folder to resume from the one before"
        ) from error


def contiguous(tensors: Weights) -> Weights:
    """Tensors as safetensors takes them."""
    return {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
