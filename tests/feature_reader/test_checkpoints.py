"""The reader's state in the checkpoints of others: torch.distributed.checkpoint and torchdata's StatefulDataLoader."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from pyiceberg.table import Table
from torch.distributed import checkpoint

from feature_reader import Reader, StateError
from feature_reader.torch import RequestDataset, RequestLoader
from lakehouse.settings import Settings
from tests.support.datasets import SPECS, raw_log, reference_requests, write_request_table

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:torch.distributed is disabled, unavailable or uninitialized:UserWarning"),
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning"),
]
OPTIONS: dict[str, Any] = {"batch_requests": 7, "window": 3}


@pytest.fixture
def video(settings: Settings) -> Table:
    spec = SPECS["video"]
    return write_request_table(settings, spec, reference_requests(raw_log(spec), spec), files=2, row_group=7)


def ids(batches: Any) -> list[list[int]]:
    return [[int(i) for i in b["request_id"]] for b in batches]


@pytest.mark.parametrize("steps", [0, 3, 9])
def test_a_distributed_checkpoint_holds_the_reader_beside_the_model(video: Table, tmp_path: Path, steps: int) -> None:
    loader, model = RequestLoader(Reader(video, **OPTIONS)), torch.nn.Linear(2, 1)
    ids(islice(loader, steps))
    saved = loader.state_dict()
    checkpoint.save({"reader": loader, "model": model.state_dict()}, checkpoint_id=tmp_path / "step")
    rest = ids(loader)
    other, weights = RequestLoader(Reader(video, **OPTIONS)), torch.nn.Linear(2, 1).state_dict()
    checkpoint.load({"reader": other, "model": weights}, checkpoint_id=tmp_path / "step")
    assert other.state_dict() == saved
    assert ids(other) == rest
    assert torch.equal(weights["weight"], model.weight)
    another = {"reader": Reader(video, **OPTIONS, seed=4)}
    with pytest.raises(Exception, match="seed: the state has 0, the reader 4") as caught:
        checkpoint.load(another, checkpoint_id=tmp_path / "step")
    assert isinstance(caught.value, StateError | checkpoint.CheckpointException)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stateful_data_loader_resumes_at_any_step(video: Table, workers: int) -> None:
    torchdata = pytest.importorskip(
        "torchdata.stateful_dataloader", reason="torchdata is not installed: pip install 'reqlake[examples]'"
    )
    whole = ids(Reader(video, **OPTIONS))
    assert len(whole) == 9

    def loader() -> Any:
        dataset = RequestDataset(Reader(video, **OPTIONS))
        return torchdata.StatefulDataLoader(dataset, batch_size=None, num_workers=workers)

    for step in (1, 5, 8):
        first = loader()
        iterator = iter(first)
        given = ids(islice(iterator, step))
        state = first.state_dict()
        del iterator
        second = loader()
        second.load_state_dict(state)
        assert given + ids(second) == whole
