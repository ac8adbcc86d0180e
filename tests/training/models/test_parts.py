"""The parts of the ranker: hashing, windows, tokens."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from feature_reader import Jagged, RequestBatch
from tests.training.batches import STILL, forgetful, ranker, request_batch
from training.models.description import Sequence
from training.models.embedding import HashedTable
from training.models.window import window

IDS = st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=50)


@given(IDS, st.integers(1, 1000))
def test_any_id_has_a_row_in_each_sub_table(ids: list[int], rows: int) -> None:
    table = HashedTable(rows, 6, sub_tables=2)
    found = table.row(torch.tensor(ids))
    assert ((found[:, 0] >= 0) & (found[:, 0] < rows)).all()
    assert ((found[:, 1] >= rows) & (found[:, 1] < 2 * rows)).all()
    assert table(torch.tensor(ids)).shape == (len(ids), 6)


@pytest.mark.parametrize("step", [1, 7, 64, 1000, 2**40])
def test_ids_spread_as_if_at_random(step: int) -> None:
    """9,066 ids in 16,384 rows: a random hash leaves 57.5 % of them alone in their row, and 0.15 pairs equal in two."""
    row = HashedTable(16384, 4, sub_tables=4).row(torch.arange(1, 9067) * step)
    for j in range(4):
        _, counts = row[:, j].unique(return_counts=True)
        assert (counts == 1).sum().item() / 9066 > 0.55
        assert counts.max().item() <= 8
    assert len(row[:, :2].unique(dim=0)) >= 9064


def history(lengths: list[int], newest_first: bool) -> tuple[RequestBatch, Sequence]:
    """Events numbered in the order stored, one candidate a request."""
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    events = Jagged(torch.arange(int(offsets[-1])), offsets)
    batch = RequestBatch({"h_id": events}, {}, torch.arange(len(lengths) + 1))
    return batch, Sequence(name="h", first="h_id", newest_first=newest_first)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=8), st.integers(1, 6), st.booleans())
def test_the_window_is_the_latest_events_oldest_first(lengths: list[int], length: int, newest_first: bool) -> None:
    batch, sequence = history(lengths, newest_first)
    seen = window(batch, sequence, length)
    rows, places, start = [], [], 0
    for n in lengths:
        own = list(range(start, start + n))
        if newest_first:
            own.reverse()
        rows += own[-length:]
        places += list(range(min(n, length), 0, -1))
        start += n
    assert seen.rows.tolist() == rows
    assert seen.position.tolist() == places
    assert seen.plan.context_offsets.diff().tolist() == [min(n, length) for n in lengths]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=8), st.integers(0, 1000))
def test_a_forgetful_window_keeps_order_and_places(lengths: list[int], seed: int) -> None:
    batch, sequence = history(lengths, newest_first=False)
    whole = window(batch, sequence, 6)
    torch.manual_seed(seed)
    some = window(batch, sequence, 6, drop=0.9)
    place = dict(zip(whole.rows.tolist(), whole.position.tolist(), strict=True))
    kept = some.rows.tolist()
    assert kept == sorted(set(kept))
    assert [place[row] for row in kept] == some.position.tolist()
    assert all(a <= b for a, b in zip(some.plan.context_offsets.diff(), whole.plan.context_offsets.diff(), strict=True))


def test_the_latest_event_counts_and_what_lies_before_the_window_does_not() -> None:
    batch = request_batch("feed", users=6, history=30)
    model = ranker("feed", batch).eval()
    offsets = batch.request["history_item_id"].offsets
    long = (offsets.diff() > STILL.history_length + 1).nonzero()[0, 0]
    before = model(batch)[batch.request_index == long]
    batch.request["history_item_id"].values[offsets[long]] += 1
    assert torch.equal(model(batch)[batch.request_index == long], before)
    batch.request["history_item_id"].values[offsets[long + 1] - 1] += 1
    assert not torch.equal(model(batch)[batch.request_index == long], before)


def test_training_forgets_and_serving_does_not() -> None:
    batch = request_batch("feed", users=6)
    model = ranker("feed", batch, forgetful())
    assert not torch.equal(model(batch), model(batch))
    model.eval()
    assert torch.equal(model(batch), model(batch))


def test_no_candidates_have_no_logits() -> None:
    batch = request_batch("video", users=2)
    assert ranker("video", batch)(batch.slice(0, 0)).shape == (0, 2)
