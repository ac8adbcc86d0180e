"""The reader for PyTorch: `RequestLoader` for a training loop, `RequestDataset` for a DataLoader of one's own.

Threads are the default: they decode outside the GIL, and two of them outrun forked workers several times. Worker
processes stay exact: worker w of n takes every n-th step, a DataLoader asks its workers in turn, so the steps come in
the reader's own order. Each worker then decodes the windows that its steps draw from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from feature_reader.batch import Position, RequestBatch
from feature_reader.errors import RanksDisagreeError, ReaderError
from feature_reader.reader import Reader
from feature_reader.stats import ReaderStats
from lakehouse.errors import NotInstalledError

try:
    import torch
    import torch.distributed as dist
    from torch.utils.data import DataLoader, IterableDataset, get_worker_info
except ModuleNotFoundError as missing:
    raise NotInstalledError("torch", "train") from missing


class RequestDataset(IterableDataset[RequestBatch]):
    """An epoch of `reader` as batches of tensors: give it to `DataLoader(dataset, batch_size=None)`.

    With worker processes that are not persistent, set `dataset.reader.epoch` before each epoch: a worker starts from
    the reader as it is in the main process. `RequestLoader` does that by itself. torchdata's `StatefulDataLoader` saves
    and restores each worker's state.
    """

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self._next: int | None = None
        """Which of the steps from the reader's place on is this worker's next one; None: its own number."""

    def __len__(self) -> int:
        return len(self.reader)

    def __iter__(self) -> Iterator[RequestBatch]:
        worker, workers = self._worker()
        for batch in self.reader.iterate(worker, workers):
            self._next = workers - 1
            yield batch.torch()
        self._next = None

    def _worker(self) -> tuple[int, int]:
        """This worker's next step, counted from the reader's place, and the number of workers."""
        info = get_worker_info()
        worker, workers = (0, 1) if info is None else (info.id, info.num_workers)
        return worker if self._next is None else self._next, workers

    def state_dict(self) -> dict[str, Any]:
        """The reader's state, and where in a round of the workers this one stands."""
        return self.reader.state_dict() | {"next_step": self._worker()[0]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from this worker's state, or from a reader's."""
        self.reader.load_state_dict(state)
        self._next = state.get("next_step")


class RequestLoader:
    """Batches of tensors on a device, with an exact state whatever was fetched ahead.

    `processes` worker processes read (0: the reader's threads, which is faster unless the loop itself holds the GIL).
    On a CUDA device batches are pinned and copied on a side stream, one ahead of the loop. In a distributed run the
    ranks' plans are compared before the first step.
    """

    def __init__(self, reader: Reader, *, device: Any = None, processes: int = 0) -> None:
        if processes < 0:
            raise ReaderError(f"processes={processes}: give 0 for threads, or a number of worker processes")
        self.reader = reader
        self.device = torch.device(device) if device is not None else None
        self.processes = processes
        self._given: RequestBatch | None = None
        self._at: Position | None = None

    def __len__(self) -> int:
        return len(self.reader)

    def __iter__(self) -> Iterator[RequestBatch]:
        """The rest of the epoch, or the next one where none is left: a loop may stop when it has counted `len` steps.

        `state_dict()` counts the batches that the loop has been given, and no more.
        """
        check_ranks_agree(self.reader)
        reader = self.reader
        if self._given is not None and self._given.after is not None and self._at == _place(reader):
            reader.move_to(self._given.after)  # the loop was left, and the reader may be ahead of it
        if reader.requests_consumed and not len(reader.steps(reader.epoch, reader.requests_consumed)):
            reader.epoch += 1
        epoch = reader.epoch
        batches = self._batches()
        if self.device is not None and self.device.type == "cuda":
            batches = _ahead(batches, self.device, reader.stats)
        elif self.device is not None:
            batches = _copied(batches, self.device, reader.stats)
        self._given = None
        for batch in batches:
            self._given = batch
            if self.processes and batch.after is not None:
                reader.move_to(batch.after)
            self._at = _place(reader)
            yield batch
        self._given = None
        if self.processes:
            reader.epoch = epoch + 1

    def _batches(self) -> Iterator[RequestBatch]:
        if not self.processes:
            return (batch.torch() for batch in self.reader)
        return iter(DataLoader(RequestDataset(self.reader), batch_size=None, num_workers=self.processes))

    def state_dict(self) -> dict[str, Any]:
        """The state after the batch that the loop was given last."""
        return self.reader.state_dict(self._given)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        self._given = None
        self.reader.load_state_dict(state)


def _place(reader: Reader) -> Position:
    return Position(reader.epoch, reader.requests_consumed)


def check_ranks_agree(reader: Reader) -> None:
    """Compare the ranks' plans and places; raises RanksDisagreeError on every rank. Alone, it does nothing."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return
    mine = reader.state_dict() | {
        "rank": reader.share.rank,
        "world_size": reader.share.world_size,
        "steps": len(reader),
    }
    mine.pop("damage", None)  # what a rank could not read is its own
    everyone: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everyone, mine)
    wrong = [name for name in mine if name != "rank" and any(other[name] != mine[name] for other in everyone)]
    if wrong:
        shown = "; ".join(f"{name}: {[other[name] for other in everyone]}" for name in wrong)
        raise RanksDisagreeError(f"the ranks would read different data. By rank, {shown}")
    if sorted(other["rank"] for other in everyone) != list(range(mine["world_size"])):
        raise RanksDisagreeError(
            f"the readers' ranks are {[other['rank'] for other in everyone]} of world_size {mine['world_size']}: "
            "give each process its own rank and the number of processes"
        )


def _copied(batches: Iterator[RequestBatch], device: torch.device, stats: ReaderStats) -> Iterator[RequestBatch]:
    """Copy each batch when it is asked for."""
    for batch in batches:
        stats.add(copied_bytes=batch.nbytes)
        with stats.timed("copy_s"):
            copied = batch.to(device)
        yield copied


def _ahead(batches: Iterator[RequestBatch], device: torch.device, stats: ReaderStats) -> Iterator[RequestBatch]:
    """Copy each batch on a side stream while the loop works on the one before."""
    side: Any = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def copy() -> RequestBatch | None:
        batch = next(batches, None)
        if batch is None:
            return None
        stats.add(copied_bytes=batch.nbytes)
        with torch.cuda.stream(side), stats.timed("copy_s"):
            return batch.to(device, non_blocking=True)

    following = copy()
    while following is not None:
        batch = following
        torch.cuda.current_stream(device).wait_stream(side)
        batch.record_stream(torch.cuda.current_stream(device))
        following = copy()
        yield batch
