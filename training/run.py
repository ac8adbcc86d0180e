"""A run: what was asked, on which snapshot, split how, with which inputs; fixed in `run.json` before the first step."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyiceberg.table import Table

from feature_reader import Reader, RequestBatch, SkipRequests
from lakehouse.catalog import open_catalog
from lakehouse.schema import open_request_table, table_spec
from lakehouse.settings import Settings
from lakehouse.spec import DatasetSpec, spec_from_json
from training.config import TrainConfig
from training.errors import CheckpointError, TrainingError
from training.export import check_format, read_json
from training.folders import write_file
from training.inputs import describe, fit
from training.lock import sole_owner
from training.models import ModelInputs
from training.split import TimeSplit, time_split

FORMAT = 1
RUN = "run.json"
SKIP = "skip_requests.csv"
KEYS = ("user_id", "request_id", "request_ts", "item_id")


@dataclass(frozen=True)
class Run:
    """A run's folder and what stays fixed in it."""

    folder: Path
    config: TrainConfig
    snapshot_id: int
    split: TimeSplit
    inputs: ModelInputs
    spec: DatasetSpec
    skip: SkipRequests | None = None
    """Requests that none of the run's readers gives."""

    def reader(self, table: Table, row_filter: str, **options: Any) -> Reader:
        """A reader of this run's snapshot, with the columns that the model and its losses want."""
        return model_reader(
            table,
            self.inputs,
            self.snapshot_id,
            row_filter,
            threads=self.config.reader_threads,
            skip_requests=self.skip,
            **options,
        )


def model_reader(
    table: Table, inputs: ModelInputs, snapshot_id: int | None, row_filter: str | None, **options: Any
) -> Reader:
    """A reader with the columns that a model and its losses want."""
    columns = (*KEYS, *inputs.columns, *(task.label for task in inputs.tasks))
    return Reader(table, columns=columns, snapshot_id=snapshot_id, row_filter=row_filter, **options)


def start_run(config: TrainConfig, settings: Settings) -> tuple[Run, Table]:
    """Pin the snapshot, split it, fit the inputs, and write `run.json`.

    Raises TrainingError if the folder holds a run already, or if there is nothing to train on.
    """
    table = request_table(config.table, settings)
    snapshot = table.current_snapshot()
    if snapshot is None:
        raise TrainingError(f"{config.table} is empty: ingest a raw log first (`reqlake ingest`)")
    spec = table_spec(table)
    folder = config.run or settings.home / "runs" / f"{spec.name}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"
    _refuse_started(folder)
    inputs = describe(spec, history=config.history, task_weights=config.task_weights)
    snapshot_id = config.snapshot_id or snapshot.snapshot_id
    split = time_split(table, snapshot_id, validation_share=config.validation_share, test_share=config.test_share)
    skip = SkipRequests.read(config.skip_requests) if config.skip_requests is not None else None
    run = Run(folder, config, snapshot_id, split, inputs, spec, skip)
    fitted = fit(inputs, tensors(run.reader(table, split.train, batch_requests=1024, shuffle=False)))
    run = Run(folder, config, snapshot_id, split, fitted, spec, skip)
    document = {
        "format": FORMAT,
        "config": config.to_json(),
        "snapshot_id": snapshot_id,
        "split": split.to_json(),
        "inputs": fitted.to_json(),
        "spec": json.loads(spec.to_json()),
    }
    with sole_owner(folder):
        _refuse_started(folder)
        if skip is not None:
            write_file(folder / SKIP, skip.to_csv())
        write_file(folder / RUN, json.dumps(document, indent=1))
    return run, table


def _refuse_started(folder: Path) -> None:
    if (folder / RUN).exists():
        raise TrainingError(
            f"{folder} holds a run already: resume it (`reqlake train --resume {folder}`), or name another"
        )


def open_run(folder: Path) -> Run:
    """A run that was started. Raises CheckpointError if there is none, FormatError if it is newer."""
    document = read_json(folder / RUN, "a run")
    check_format(document, folder, "run")
    try:
        config = TrainConfig.from_json(document["config"])
        return Run(
            folder,
            config,
            document["snapshot_id"],
            TimeSplit(**document["split"]),
            ModelInputs.from_json(document["inputs"]),
            spec_from_json(json.dumps(document["spec"]), f"the spec of {folder}"),
            SkipRequests.read(folder / SKIP) if config.skip_requests is not None else None,
        )
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{folder / RUN} is damaged: {error}") from error


def request_table(name: str, settings: Settings) -> Table:
    """A request table by its full name."""
    return open_request_table(open_catalog(settings), name, settings)


def tensors(reader: Reader) -> Iterator[RequestBatch]:
    """The rest of the reader's epoch as torch tensors."""
    for batch in reader:
        yield batch.torch()
