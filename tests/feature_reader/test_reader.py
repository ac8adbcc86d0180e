"""Every request exactly once, as the table holds it, in one order that nothing but seed and epoch changes."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pyiceberg.table import Table

from feature_reader import Reader, ReaderError, RequestBatch, trace
from lakehouse.catalog import open_catalog
from lakehouse.errors import TableMissingError
from lakehouse.schema import ensure_request_table
from lakehouse.settings import Settings
from tests.feature_reader.plain import expected_rows, rows_of, same
from tests.support.datasets import SPECS, raw_log, reference_requests, write_request_table

MakeTable = Callable[..., Table]


@pytest.fixture
def feed(settings: Settings) -> Table:
    """60 requests of the `feed` dataset in 12 row groups."""
    spec = SPECS["feed"]
    return write_request_table(settings, spec, reference_requests(raw_log(spec), spec), files=2, row_group=7)


def ids(batches: list[RequestBatch]) -> list[int]:
    return [int(i) for b in batches for i in b["request_id"][: b.R - b.padding]]


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("name", SPECS)
def test_each_request_comes_once_and_as_the_table_holds_it(name: str, shuffle: bool, settings: Settings) -> None:
    spec = SPECS[name]
    requests = reference_requests(raw_log(spec), spec)
    table = write_request_table(settings, spec, requests, files=2, row_group=7)
    expected = expected_rows(requests, spec)
    rows = [r for batch in Reader(table, batch_requests=9, shuffle=shuffle, window=3) for r in rows_of(batch)]
    assert sorted(r["request_id"] for r in rows) == sorted(expected)
    for row in rows:
        want = expected[row["request_id"]]
        assert same(row, want), {k: (row[k], want[k]) for k in want if not same(row[k], want[k])}


def test_fields_of_a_sequence_share_their_offsets(feed: Table) -> None:
    for batch in Reader(feed):
        history = [batch[name].offsets for name in ("history_item_id", "history_action", "history_ts")]
        assert history[0] is history[1] is history[2]
        assert batch["price"].shape == (batch.C,)
        assert batch.request_index.tolist() == np.repeat(np.arange(batch.R), np.diff(batch.candidate_offsets)).tolist()


def test_epochs_differ_and_a_seed_repeats_them(feed: Table) -> None:
    reader = Reader(feed, seed=3)
    epochs = [ids(list(reader)) for _ in range(3)]
    assert reader.epoch == 3
    assert len({tuple(e) for e in epochs}) == 3
    assert len({tuple(sorted(e)) for e in epochs}) == 1
    again = Reader(feed, seed=3, threads=5)
    assert [ids(list(again)) for _ in range(3)] == epochs
    assert ids(list(Reader(feed, seed=4))) != epochs[0]
    again.epoch = 1
    assert ids(list(again)) == epochs[1]


def test_the_order_is_the_same_on_every_machine_and_numpy() -> None:
    """Known values: a change here breaks the resume of every saved state."""
    from feature_reader.order import Order

    order = Order(np.array([2, 3, 1, 4]), window=2, seed=5, epoch=1, shuffle=True)
    assert order.units.tolist() == [1, 0, 2, 3]
    assert [row.tolist() for k in range(2) for row in order.requests_of(k)] == [
        [1, 0, 1, 0, 0],
        [0, 1, 1, 0, 2],
        [1, 1, 1, 0, 1],
        [0, 2, 3, 0, 1],
    ]


def test_the_plan_does_not_follow_the_order_of_commits(feed: Table) -> None:
    reader = Reader(feed)
    tasks = reader.sources[0].planner.tasks(feed.current_snapshot().snapshot_id)
    before = reader.plan
    shuffled = [tasks[i] for i in np.random.default_rng(0).permutation(len(tasks))]
    other = Reader(feed)
    object.__setattr__(other.sources[0].planner, "tasks", lambda _: shuffled)
    assert other.plan.hash == before.hash
    assert ids(list(other)) == ids(list(Reader(feed)))


@hypothesis_settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    world=st.integers(1, 9),
    batch=st.integers(1, 70),
    window=st.integers(1, 13),
    tail=st.sampled_from(["pad", "drop", "wrap"]),
    shuffle=st.booleans(),
)
def test_ranks_make_equal_steps_and_share_every_request(
    feed: Table, world: int, batch: int, window: int, tail: Any, shuffle: bool
) -> None:
    options: dict[str, Any] = {"batch_requests": batch, "window": window, "shuffle": shuffle, "columns": ["request_id"]}
    alone = ids(list(Reader(feed, **options)))
    steps: list[list[RequestBatch]] = []
    readers = [Reader(feed, **options, rank=r, world_size=world, tail=tail) for r in range(world)]
    steps = [list(reader) for reader in readers]
    assert {len(s) for s in steps} == {len(readers[0])}
    assert all(b.R > 0 for s in steps for b in s)
    together = [sorted(i for rank in steps for i in ids(rank[k : k + 1])) for k in range(len(readers[0]))]
    size = batch * world
    kept = len(alone) // size * size if tail == "drop" else len(alone)
    wanted = [sorted(alone[p : p + size]) for p in range(0, kept, size)]
    if tail == "wrap" and kept % size:
        ring = alone * (2 + size // len(alone))
        wanted[-1] = sorted(ring[kept // size * size : kept // size * size + size])
    assert together == wanted
    assert {r.stats.dropped for r in readers} == {len(alone) - kept}
    assert all(sum(b.padding for b in s) == r.stats.padding for r, s in zip(readers, steps, strict=True))


@hypothesis_settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    by=st.sampled_from(["candidates", "tokens"]),
    size=st.integers(1, 300),
    world=st.integers(1, 5),
    window=st.integers(1, 13),
    tail=st.sampled_from(["pad", "drop"]),
)
def test_batches_by_candidates_or_tokens_keep_to_their_size(
    feed: Table, by: str, size: int, world: int, window: int, tail: Any
) -> None:
    options: dict[str, Any] = {"window": window, f"batch_{by}": size, "tail": tail}
    readers = [Reader(feed, **options, rank=r, world_size=world) for r in range(world)]
    ranks = [list(reader) for reader in readers]
    assert {len(steps) for steps in ranks} == {len(Reader(feed, **options, world_size=world))}

    def measure(batch: RequestBatch) -> np.ndarray:
        tokens = batch["history_item_id"].lengths if by == "tokens" else 0
        return (np.diff(batch.candidate_offsets) + tokens)[: batch.R - batch.padding]

    for step in zip(*ranks, strict=True):
        sizes = [measure(batch) for batch in step]
        together = np.concatenate(sizes)
        assert together.sum() <= size * world or len(together) == 1
        even = together.sum() / world
        assert all(abs(s.sum() - even) <= together.max() for s in sizes)
    alone = ids(list(Reader(feed, window=window)))
    together_ids = sorted(i for steps in ranks for i in ids(steps))
    assert len(set(together_ids)) == len(together_ids) == len(alone) - readers[0].stats.dropped
    assert tail == "drop" or together_ids == sorted(alone)


def test_a_trace_names_the_rows_of_any_step_without_reading_them(feed: Table) -> None:
    for rank in range(2):
        reader = Reader(
            feed, batch_requests=9, window=3, rank=rank, world_size=2, row_filter="hour >= 19 or user_id < 9"
        )
        traces = [trace(reader, step, epoch=1).places() for step in range(len(reader))]
        assert reader.stats.units == 0
        reader.epoch = 1
        assert [batch.origin.places() for batch in reader if batch.origin is not None] == traces
    with pytest.raises(ReaderError, match="step 99"):
        trace(reader, 99)


def test_a_rank_decodes_its_share_of_a_window_and_not_all_of_it(settings: Settings) -> None:
    spec = SPECS["feed"]
    requests = reference_requests(raw_log(spec, users=200, fanout=1, history=2), spec)
    table = write_request_table(settings, spec, requests, files=1, row_group=75)
    readers = [Reader(table, window=8, batch_requests=20, rank=r, world_size=4) for r in range(4)]
    read = [sum(1 for _ in r) and r.stats.units for r in readers]
    assert sum(read) < 3 * len(readers[0].plan.units)


def test_breaking_off_keeps_the_place_and_leaves_no_thread(feed: Table) -> None:
    whole = ids(list(Reader(feed, batch_requests=4)))
    reader = Reader(feed, batch_requests=4)
    got: list[RequestBatch] = []
    for batch in reader:
        got.append(batch)
        if len(got) == 3:
            break
    gc.collect()
    assert not reader_threads()
    got += list(reader)
    assert ids(got) == whole
    with pytest.raises(ZeroDivisionError):
        fail_inside(reader)
    iterator = iter(reader)
    next(iterator)
    del iterator, reader
    gc.collect()
    assert not reader_threads()


def fail_inside(reader: Reader) -> None:
    for _ in reader:
        raise ZeroDivisionError


def reader_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("reqlake")]


def test_columns_projects_down_to_one_list(feed: Table) -> None:
    for batch in Reader(feed, columns=["history_item_id"]):
        assert list(batch.request) == ["history_item_id"]
        assert not batch.candidates
    one = next(iter(Reader(feed, columns=["click"])))
    assert list(one.candidates) == ["click"]
    assert len(one["click"]) == one.C
    with pytest.raises(ReaderError, match=r"no column 'clik'.*Did you mean 'click'"):
        Reader(feed, columns=["clik"])


def test_a_table_without_rows_gives_no_steps(settings: Settings) -> None:
    table = ensure_request_table(open_catalog(settings), SPECS["feed"], settings)
    reader = Reader(table)
    assert len(reader) == 0
    assert list(reader) == []
    assert reader.state_dict()["tables"]["reqlake.feed_requests"]["snapshot_id"] is None
    reader.load_state_dict(reader.state_dict())


def test_empty_histories_and_single_candidates_are_legal(settings: Settings) -> None:
    spec = SPECS["shop"]
    requests = reference_requests(raw_log(spec, history=0, fanout=1), spec)
    table = write_request_table(settings, spec, requests)
    batch = next(iter(Reader(table, batch_requests=100)))
    assert batch.R == batch.C == len(requests)
    assert batch["bought_sku"].offsets.tolist() == [0] * (batch.R + 1)
    assert batch.torch().expand()["bought_sku"].values.shape == (0,)


def test_batches_say_where_their_requests_lie(feed: Table) -> None:
    import pyarrow.parquet as pq

    for batch in Reader(feed, batch_requests=7):
        origin = batch.origin
        assert origin is not None
        for i in range(batch.R):
            path = origin.files[origin.file[i]].removeprefix("file://")
            rows = pq.ParquetFile(path).read_row_group(int(origin.row_group[i]), columns=["request_id"])
            assert rows["request_id"][int(origin.row[i])].as_py() == batch["request_id"][i]


@pytest.mark.usefixtures("feed")
def test_open_by_name(settings: Settings) -> None:
    assert len(ids(list(Reader.open(settings, "reqlake.feed_requests", batch_requests=8)))) == 60
    with pytest.raises(TableMissingError, match="Did you mean"):
        Reader.open(settings, "reqlake.fed_requests")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_requests": 0}, "batch_requests=0: give at least 1"),
        ({"rank": 2, "world_size": 2}, "rank 2 of world_size 2"),
        ({"tail": "keep"}, "tail 'keep'"),
        ({"tag": "gold"}, "no tag 'gold'"),
        ({"snapshot_id": 1}, "no snapshot 1"),
        ({"snapshot_id": 1, "tag": "x"}, "give one of them"),
        ({"schema_id": 7}, "has schemas 0"),
        ({"batch_candidates": 7, "batch_tokens": 9}, "batch_candidates=7 and batch_tokens=9: give one"),
        ({"batch_tokens": 7, "tail": "wrap"}, "tail 'wrap' with batch_tokens"),
    ],
)
def test_options_that_cannot_work_are_refused(feed: Table, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ReaderError, match=message):
        Reader(feed, **options)
