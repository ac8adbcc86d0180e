"""A saved state continues the same order: bit by bit, on other ranks and batch sizes, or it says what differs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyiceberg.table import Table

from feature_reader import Jagged, Reader, RequestBatch, StateError
from feature_reader.state import STATE_VERSION, ReaderState
from lakehouse.settings import Settings
from tests.support.datasets import SPECS, raw_log, reference_requests, write_request_table

ROOT = Path(__file__).parents[2]
RESUME = """
import hashlib, json, sys
from feature_reader import Reader
from lakehouse.settings import load_settings
from tests.feature_reader.test_state import digest

reader = Reader.open(load_settings(home=sys.argv[1]), "reqlake.video_requests", batch_requests=7, window=3)
for line in sys.stdin:
    reader.load_state_dict(json.loads(line))
    print(json.dumps([digest(b) for b in reader] + [digest(next(iter(reader)))]), flush=True)
"""


@pytest.fixture
def video(settings: Settings) -> Table:
    spec = SPECS["video"]
    return write_request_table(settings, spec, reference_requests(raw_log(spec), spec), files=2, row_group=7)


def digest(batch: RequestBatch) -> str:
    """A hash of every byte of the batch."""
    import hashlib

    found = hashlib.sha256()
    for name, column in [*batch.request.items(), *batch.candidates.items(), ("", batch.candidate_offsets)]:
        parts = [column.values, column.offsets] if isinstance(column, Jagged) else [column]
        for part in parts:
            found.update(f"{name} {part.dtype} {part.shape}".encode() + np.ascontiguousarray(part).tobytes())
    return found.hexdigest()


def test_after_every_step_another_process_continues_bit_by_bit(video: Table, settings: Settings) -> None:
    reader = Reader(video, batch_requests=7, window=3)
    states, digests = [reader.state_dict()], []
    for batch in reader:
        digests.append(digest(batch))
        states.append(reader.state_dict())
    digests.append(digest(next(iter(reader))))  # of the next epoch
    lines = "\n".join(json.dumps(s) for s in states)
    command = [sys.executable, "-c", RESUME, str(settings.home)]
    done = subprocess.run(command, cwd=ROOT, input=lines, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    resumed = [json.loads(line) for line in done.stdout.splitlines()]
    assert resumed == [digests[k:] for k in range(len(states))]


def test_state_is_small_json_that_saves_as_it_was_loaded(video: Table) -> None:
    reader = Reader(video, batch_requests=7)
    next(iter(reader))
    state = json.loads(json.dumps(reader.state_dict()))
    assert len(json.dumps(state)) < 500
    other = Reader(video, batch_requests=7)
    other.load_state_dict(state)
    assert other.state_dict() == state
    assert state["requests_consumed"] == 7
    assert state["version"] == STATE_VERSION


def ids(batch: RequestBatch) -> list[int]:
    return [int(i) for i in batch["request_id"][: batch.R - batch.padding]]


def test_other_ranks_and_batch_sizes_continue_the_same_order(video: Table) -> None:
    whole = [i for b in Reader(video, window=3) for i in ids(b)]
    two = [Reader(video, window=3, batch_requests=5, rank=r, world_size=2) for r in range(2)]
    iterators = [iter(r) for r in two]
    for _ in range(2):
        for iterator in iterators:
            next(iterator)
    assert two[0].state_dict() == two[1].state_dict()
    three = [Reader(video, window=3, batch_requests=4, rank=r, world_size=3, threads=1) for r in range(3)]
    for reader in three:
        reader.load_state_dict(two[0].state_dict())
    steps = list(zip(*three, strict=True))
    got = [sorted(i for batch in step for i in ids(batch)) for step in steps]
    rest = whole[20:]
    assert got == [sorted(rest[p : p + 12]) for p in range(0, len(rest), 12)]


def test_resume_reads_the_windows_that_are_left_and_no_more(video: Table) -> None:
    reader = Reader(video, batch_requests=1, window=1)
    reader.plan  # noqa: B018 - counted below
    last = reader.plan.requests - 1
    reader.load_state_dict(reader.state_dict() | {"requests_consumed": last})
    assert sum(1 for _ in reader) == 1
    assert reader.stats.units == 1


def test_the_snapshot_of_a_state_is_pinned(video: Table, settings: Settings) -> None:
    reader = Reader(video, batch_requests=7)
    iterator = iter(reader)
    next(iterator)
    state = reader.state_dict()
    rest = [digest(b) for b in iterator]
    spec = SPECS["video"]
    more = reference_requests(raw_log(spec, seed=5), spec)
    changed = write_request_table(settings, spec, more, files=1)
    changed.overwrite(changed.scan().to_arrow())  # a compaction: every file is replaced
    changed.refresh()
    other = Reader(changed, batch_requests=7)
    assert other.plan.requests == 120
    other.load_state_dict(state)
    assert [digest(b) for b in other] == rest
    with pytest.raises(StateError, match=r"snapshot_id: the state has \d+, the reader \d+"):
        Reader(changed, snapshot_id=changed.current_snapshot().snapshot_id).load_state_dict(state)  # type: ignore[union-attr]
    with pytest.raises(StateError, match=r"the state's snapshot 77 is no longer in reqlake\.video_requests"):
        Reader(changed).load_state_dict(pinned(state, snapshot_id=77))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 9}, "seed: the state has 9, the reader 0"),
        ({"tables": {"table_uuid": "x"}}, "table_uuid: the state has 'x'.*another table"),
        ({"plan_hash": "x"}, "plan_hash: the state has 'x'"),
        ({"tables": {"schema_id": 4}}, "schema_id: the state has 4"),
        ({"row_filter": "hour > 3"}, "row_filter"),
        ({"window": 2}, "window: the state has 2, the reader 3"),
        ({"shuffle": False}, "shuffle"),
        ({"version": 99}, "version 99, this reqlake reads up to 2"),
        ({"version": None}, "no reader state"),
    ],
)
def test_each_difference_is_named(video: Table, change: dict[str, Any], message: str) -> None:
    reader = Reader(video, window=3)
    state = reader.state_dict()
    changed = pinned(state, **change["tables"]) if "tables" in change else state | change
    with pytest.raises(StateError, match=message):
        reader.load_state_dict(changed)


def test_a_cut_state_is_refused(video: Table) -> None:
    state = Reader(video).state_dict()
    del state["epoch"]
    with pytest.raises(StateError, match="lacks epoch"):
        Reader(video).load_state_dict(state)


def pinned(state: dict[str, Any], **changed: Any) -> dict[str, Any]:
    """The state of a single table with its table's entry changed."""
    return state | {"tables": {name: pin | changed for name, pin in state["tables"].items()}}


def test_the_first_version_of_the_state_stays_readable() -> None:
    """As saved by reqlake 0.1.0, which knew one table and not its name: later versions have to read it."""
    table = {"table_uuid": "6b3e0f0c-5a51-4a4e-9a5e-2f1d3c4b5a69", "snapshot_id": 4703875051686895429, "schema_id": 0}
    rest = {
        "row_filter": "AlwaysTrue()",
        "window": 8,
        "shuffle": True,
        "plan_hash": "0f1e2d3c4b5a6978",
        "seed": 0,
        "epoch": 2,
        "requests_consumed": 640,
    }
    read = ReaderState.from_dict(table | rest | {"version": 1}).for_tables(["lake.requests"])
    assert read.to_dict() == rest | {"tables": {"lake.requests": table}, "version": STATE_VERSION}


def test_a_reader_takes_up_a_state_of_the_first_version(video: Table) -> None:
    reader = Reader(video, batch_requests=7)
    next(iter(reader))
    state = reader.state_dict()
    (table,) = state.pop("tables").values()
    other = Reader(video, batch_requests=7)
    other.load_state_dict(state | table | {"version": 1})
    assert other.state_dict() == reader.state_dict()
