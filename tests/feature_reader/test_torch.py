"""PyTorch's faces: tensors, worker processes that stay exact, and a state that counts what the loop was given."""

from __future__ import annotations

import multiprocessing
import pickle
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from pyiceberg.table import Table
from torch.utils.data import DataLoader

from feature_reader import DataFileError, RanksDisagreeError, Reader, ReaderError, RequestBatch
from feature_reader.torch import RequestDataset, RequestLoader, check_ranks_agree
from lakehouse.settings import Settings
from tests.feature_reader.harm import break_pages
from tests.support.datasets import SPECS, raw_log, reference_requests, write_request_table

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning"),
]


@pytest.fixture
def video(settings: Settings) -> Table:
    spec = SPECS["video"]
    return write_request_table(settings, spec, reference_requests(raw_log(spec), spec), files=2, row_group=7)


def ids(batches: Any) -> list[list[int]]:
    return [[int(i) for i in b["request_id"]] for b in batches]


def test_batches_are_tensors_that_share_offsets_and_may_be_written(video: Table) -> None:
    for batch in RequestLoader(Reader(video)):
        assert batch["taste"].dtype == torch.float32
        assert batch["watched_clip"].offsets is batch["watched_at"].offsets
        batch["taste"].add_(1)
        assert batch["look"].shape == (batch.C, 3)
        expanded = batch.expand()
        assert expanded["watched_clip"].offsets.shape == (batch.C + 1,)
        index = batch.request_index
        assert torch.equal(expanded["taste"], batch["taste"][index])
        assert expanded["watched_clip"].tolist() == [batch["watched_clip"].tolist()[i] for i in index.tolist()]


@pytest.mark.parametrize("workers", [1, 2])
def test_worker_processes_give_the_readers_own_order(video: Table, workers: int) -> None:
    reader = Reader(video, batch_requests=7, window=3)
    wanted = ids(Reader(video, batch_requests=7, window=3))
    assert ids(DataLoader(RequestDataset(reader), batch_size=None, num_workers=workers)) == wanted


@pytest.mark.parametrize("processes", [0, 2])
def test_a_loader_goes_from_epoch_to_epoch_and_resumes_anywhere(video: Table, processes: int) -> None:
    plain = Reader(video, batch_requests=7, window=3)
    wanted = [ids(plain), ids(plain)]
    loader = RequestLoader(Reader(video, batch_requests=7, window=3), processes=processes)
    assert [ids(loader), ids(loader)] == wanted
    assert len(loader) == len(wanted[0])
    loader.reader.epoch = 0
    first = ids(islice(loader, 4))
    state = loader.state_dict()
    other = RequestLoader(Reader(video, batch_requests=7, window=3), processes=2 - processes)
    other.load_state_dict(state)
    assert other.state_dict() == state
    assert [first + ids(other), ids(other)] == wanted


@pytest.mark.parametrize("processes", [0, 2])
def test_a_loop_that_counts_its_steps_goes_on_with_the_next_epoch(video: Table, processes: int) -> None:
    plain = Reader(video, batch_requests=7, window=3)
    wanted = [ids(plain), ids(plain)]
    loader = RequestLoader(Reader(video, batch_requests=7, window=3), processes=processes)
    first = iter(loader)
    assert ids(islice(first, len(loader))) == wanted[0]  # and is not asked for more, as Lightning does
    state = loader.state_dict()
    assert ids(islice(loader, 3)) == wanted[1][:3]
    assert ids(loader) == wanted[1][3:]
    other = RequestLoader(Reader(video, batch_requests=7, window=3))
    other.load_state_dict(state)
    assert ids(other) == wanted[1]


def test_what_worker_processes_cannot_read_reaches_the_state(video: Table) -> None:
    def reader(allowed: int) -> Reader:
        return Reader(video, batch_requests=7, window=2, skip_bad_requests=allowed)

    break_pages(video)
    by_threads, by_processes = (RequestLoader(reader(60), processes=n) for n in (0, 2))
    assert ids(by_threads) == ids(by_processes)
    damage = by_processes.state_dict()["damage"]
    assert damage == by_threads.state_dict()["damage"]
    lost = sum(count for _, _, count in damage)
    assert lost == by_processes.reader.damage.requests > 0

    own = reader(60)
    *_, last = DataLoader(RequestDataset(own), batch_size=None, num_workers=2)
    found = own.state_dict(last)["damage"]
    assert found
    assert all(place in damage for place in found)

    with pytest.raises(DataFileError, match=f"skip_bad_requests allows {lost - 1}"):
        list(RequestLoader(reader(lost - 1), processes=2))


def test_the_state_counts_what_was_given_and_not_what_was_fetched_ahead(video: Table) -> None:
    reader = Reader(video, batch_requests=7)
    batches = iter(reader)
    first, _second = next(batches), next(batches)
    assert reader.state_dict()["requests_consumed"] == 14
    assert reader.state_dict(first)["requests_consumed"] == 7
    with pytest.raises(ReaderError, match="cut or joined batch"):
        reader.state_dict(first.slice(0, 2))


def test_a_reader_goes_to_a_spawned_process(video: Table) -> None:
    reader = Reader(video, batch_requests=7, row_filter="user_id < 0")
    other = pickle.loads(pickle.dumps(reader))
    assert other.plan.hash == reader.plan.hash
    assert other.state_dict() == reader.state_dict()
    assert ids(other) == ids(reader)


def rank_process(rank: int, seeds: list[int], address: str, table: bytes, results: Any) -> None:
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=len(seeds))
    reader: Reader = pickle.loads(table)
    reader.seed = seeds[rank]
    try:
        check_ranks_agree(reader)
        results.put(None)
    except RanksDisagreeError as error:
        results.put(str(error))
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("seeds", [[1, 1], [1, 2]])
def test_ranks_that_disagree_are_told_so(video: Table, tmp_path: Any, seeds: list[int]) -> None:
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    readers = [pickle.dumps(Reader(video, rank=r, world_size=2)) for r in range(2)]
    address = (tmp_path / "meeting").as_uri()
    processes = [context.Process(target=rank_process, args=(r, seeds, address, readers[r], results)) for r in range(2)]
    for process in processes:
        process.start()
    answers = [results.get(timeout=120) for _ in processes]
    for process in processes:
        process.join()
    assert answers == [None, None] if seeds[0] == seeds[1] else all("seed: [1, 2]" in a for a in answers)


def test_moving_a_batch_packs_its_arrays(video: Table) -> None:
    batch: RequestBatch = next(iter(Reader(video)))
    moved = batch.to("cpu", non_blocking=True)
    for name in (*batch.request, *batch.candidates):
        a, b = batch[name], moved[name]
        a, b = (a.values, b.values) if hasattr(a, "values") else (a, b)
        assert np.array_equal(a, b.numpy(), equal_nan=a.dtype.kind == "f")
        assert torch.from_numpy(a.copy()).dtype == b.dtype
