"""A run leaves out the requests that it is told to, and keeps its own copy of which they are."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from feature_reader import FilterError
from lakehouse.settings import Settings
from tests.support.datasets import SPECS, raw_log, reference_requests, write_request_table
from tests.training.run_in_process import CONFIG
from training.checkpoint import latest_checkpoint
from training.config import TrainConfig
from training.loop import train
from training.run import open_run, request_table


def test_a_run_trains_without_them_and_keeps_their_keys(settings: Settings, tmp_path: Path) -> None:
    spec = SPECS["feed"]
    requests = reference_requests(raw_log(spec, users=24, fanout=3, history=6), spec)
    write_request_table(settings, spec, requests, row_group=16)
    gone = requests["request_id"].to_pylist()[:6]
    file = tmp_path / "gone.csv"
    file.write_text("request_id\n" + "".join(f"{i}\n" for i in gone))
    config = dataclasses.replace(CONFIG, run=tmp_path / "run", epochs=1, skip_requests=file)
    train(config, settings)
    file.unlink()
    run = open_run(tmp_path / "run")
    table = request_table(config.table, settings)
    for part in (run.split.train, run.split.validation):
        read = {int(i) for batch in run.reader(table, part) for i in batch["request_id"]}  # type: ignore[union-attr]
        assert read
        assert not read & set(gone)
    latest = latest_checkpoint(run.folder)
    assert latest is not None
    assert json.loads((latest / "state.json").read_text())["reader"]["skip_requests"].startswith("6 by request_id, ")
    assert TrainConfig.from_json(json.loads((run.folder / "run.json").read_text())["config"]) == config
    with pytest.raises(FilterError, match=r"cannot read the requests to skip from .*gone\.csv"):
        train(dataclasses.replace(config, run=tmp_path / "other"), settings)
    assert not (tmp_path / "other").exists()
