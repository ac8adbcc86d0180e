"""`reqlake train`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tyro.conf import Positional

from reqlake.cli.terminal import err, out


def train(
    dataset: Positional[str] = "",
    /,
    *,
    resume: Path | None = None,
    run: Path | None = None,
    snapshot_id: int | None = None,
    tag: str | None = None,
    skip_requests: Path | None = None,
    epochs: int | None = None,
    batch_requests: int | None = None,
    learning_rate: float | None = None,
    history: str | None = None,
    width: int | None = None,
    layers: int | None = None,
    heads: int | None = None,
    history_length: int | None = None,
    device: str | None = None,
    seed: int | None = None,
) -> None:
    """Train the DCAT ranker on a request table and export the best epoch. Ctrl-C keeps a checkpoint.

    Args:
        dataset: A spec file, a table's full name or a dataset's name.
        resume: Go on with the run of this folder instead of starting one.
        run: Folder of the new run; else one below the lake's home.
        snapshot_id: What to read instead of the current snapshot.
        tag: A training set to read instead of the current snapshot.
        skip_requests: Keys of requests to leave out: a Parquet file, or CSV with a header of request_id and user_id.
        epochs: Times that the training part is gone through.
        batch_requests: Requests of a step.
        learning_rate: The highest of the schedule.
        history: The sequence to attend to; else the first of the spec.
        width: Width of a token.
        layers: Layers of the model.
        heads: Heads of each layer; they divide the width.
        history_length: Latest events of a history that are read.
        device: "cpu" or "cuda".
        seed: Of the order, the weights and the dropout.
    """
    from lakehouse.settings import load_settings
    from lakehouse.tags import reading
    from reqlake.cli.dataset import open_table, snapshot_of
    from reqlake.show.train import show_training
    from training.config import TrainConfig
    from training.errors import TrainingError
    from training.loop import resume as go_on
    from training.loop import train as start
    from training.models import RankerConfig
    from training.progress import LiveProgress
    from training.run import open_run

    settings = load_settings()
    if bool(dataset) == bool(resume):
        raise TrainingError("name a dataset to train on, or a run to go on with (--resume FOLDER), not both")
    if tag is not None:
        if snapshot_id is not None or not dataset:
            raise TrainingError("--tag is for a new run, and instead of --snapshot-id: give one of the two")
        snapshot_id = snapshot_of(dataset, tag, settings)
    sizes = {"width": width, "layers": layers, "heads": heads, "history_length": history_length}
    given: dict[str, Any] = {"run": run, "epochs": epochs, "batch_requests": batch_requests}
    given |= {
        "skip_requests": skip_requests,
        "learning_rate": learning_rate,
        "history": history,
        "device": device,
        "seed": seed,
    }
    if resume is not None:
        known = open_run(resume)
        table, snapshot_id = open_table(known.config.table, settings), known.snapshot_id
    else:
        table = open_table(dataset, settings)
    with reading(table, "train", settings, snapshot_id=snapshot_id) as snapshot, LiveProgress(err()) as progress:
        if resume is not None:
            report = go_on(resume, settings, progress)
        else:
            model = RankerConfig(**{k: v for k, v in sizes.items() if v is not None})
            chosen = {k: v for k, v in given.items() if v is not None}
            config = TrainConfig(table=".".join(table.name()), snapshot_id=snapshot, model=model, **chosen)
            report = start(config, settings, progress)
    show_training(out(), report)
