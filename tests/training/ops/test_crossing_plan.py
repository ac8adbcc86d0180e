"""The plan's tables cover every row once, and segments go to candidates and back."""

import math

import pytest
import torch
from crossing_cases import RAGGED, offsets
from hypothesis import given, settings
from hypothesis import strategies as st

import training.ops
from training.ops import CrossingPlan, segment_expand, segment_sum
from training.ops.blocks import BLOCK_ROWS
from training.ops.plan import COLUMN_BLOCKS, ROW_BLOCKS

SIZES = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)), max_size=9)


def test_public_names():
    assert training.ops.__all__ == sorted(training.ops.__all__)
    assert set(training.ops.__all__) == {
        "CrossingPlan",
        "context_attention",
        "crossing_attention",
        "linear_gelu",
        "paged_crossing_attention",
        "segment_expand",
        "segment_sum",
    }


def test_integers_and_request_index():
    plan = CrossingPlan.build(offsets([4, 0, 9]), offsets([2, 3, 0]))
    assert (plan.R, plan.C, plan.T, plan.max_length, plan.max_candidates) == (3, 5, 13, 9, 3)
    assert plan.request_index.tolist() == [0, 0, 1, 1, 1]
    assert plan.request_index.dtype == torch.int64


def test_a_batch_without_requests():
    plan = CrossingPlan.build(offsets([]), offsets([]))
    assert (plan.R, plan.C, plan.T, plan.max_length, plan.max_candidates) == (0, 0, 0, 0, 0)


@settings(max_examples=40, deadline=None)
@given(SIZES)
def test_tiles_cover_each_row_once_longest_other_side_first(sizes):
    lengths, counts = [a for a, _ in sizes], [b for _, b in sizes]
    plan = CrossingPlan.build(offsets(lengths), offsets(counts))
    rows, columns = plan.layout[2 : 2 + len(ROW_BLOCKS)], plan.layout[2 + len(ROW_BLOCKS) : -1]
    idle_first = [n or math.inf for n in counts]
    sides = (ROW_BLOCKS, rows, counts, lengths), (COLUMN_BLOCKS, columns, lengths, idle_first)
    for sizes_of, tables, own, other in sides:
        for block, table in zip(sizes_of, tables, strict=True):
            tiles = table.tolist()
            assert sorted(map(tuple, tiles)) == [(r, i) for r, n in enumerate(own) for i in range(0, n, block)]
            work = [other[r] for r, _ in tiles]
            assert work == sorted(work, reverse=True)
    starts = [(sum(counts[:r]), sum(lengths[:r])) for r in range(plan.R)]
    assert plan.layout[-1].tolist() == [
        [starts[r][0] + i, starts[r][0] + counts[r], starts[r][1], lengths[r]] for r, i in rows[-1].tolist()
    ]


@settings(max_examples=40, deadline=None)
@given(SIZES)
def test_tiles_left_over_by_one_pass_come_first(sizes):
    lengths, counts = [a for a, _ in sizes], [b for _, b in sizes]
    plan = CrossingPlan.build(offsets(lengths), offsets(counts))
    assert plan.sizes[:3] == [plan.R, plan.max_candidates, plan.max_length]
    left = iter(plan.sizes[3:])
    for rows in ROW_BLOCKS:
        for table, n in zip(plan.layout[2 + len(ROW_BLOCKS) : -1], left, strict=False):
            others = [counts[r] for r, _ in table.tolist()]
            assert [not 0 < c <= rows for c in others] == [i < n for i in range(len(others))]


@settings(max_examples=40, deadline=None)
@given(SIZES)
def test_blocks_hold_each_row_once(sizes):
    plan = CrossingPlan.build(offsets([a for a, _ in sizes]), offsets([b for _, b in sizes]))
    for padding, total in ((plan.padded.tokens, plan.T), (plan.padded.candidates, plan.C)):
        x = torch.arange(1, total + 1)
        blocks = padding.pad(x)
        assert sorted(i for b in blocks for i in b.tolist() if i) == x.tolist()
        if blocks:
            assert torch.equal(padding.unpad(blocks), x)
    for block in plan.padded.blocks:
        assert block.lengths.max() == block.L
        assert len(block.lengths) == block.R
        assert block.R == 1 or block.R * max(block.L, block.N) <= BLOCK_ROWS


@pytest.mark.parametrize(
    ("context", "candidates", "message"),
    [
        (torch.tensor([0, 3]), torch.tensor([0, 1, 2]), "holds 1 requests, candidate_offsets 2"),
        (torch.tensor([1, 3]), torch.tensor([0, 1]), "context_offsets must start at 0"),
        (torch.tensor([0, 3]), torch.tensor([0, 3, 1]), "candidate_offsets must start at 0 and never fall"),
        (torch.tensor([0, 3], dtype=torch.int32), torch.tensor([0, 1]), "must be an int64 tensor"),
    ],
)
def test_bad_offsets_are_refused_by_name(context, candidates, message):
    with pytest.raises(ValueError, match=message):
        CrossingPlan.build(context, candidates)


@pytest.mark.parametrize("shape", [(), (3,), (2, 5)])
def test_segments_are_each_others_transpose(shape):
    plan = RAGGED.plan()
    x = torch.randn(plan.R, *shape, dtype=torch.float64, requires_grad=True)
    y = torch.randn(plan.C, *shape, dtype=torch.float64, requires_grad=True)
    expanded, summed = segment_expand(x, plan), segment_sum(y, plan)
    assert torch.equal(expanded, torch.cat([x[r, None].expand(n, *shape) for r, n in enumerate(RAGGED.counts)]))
    assert torch.allclose(summed, torch.stack([part.sum(0) for part in y.split(RAGGED.counts)]))
    assert torch.allclose(torch.autograd.grad(expanded, x, y.detach())[0], summed)
    assert torch.equal(torch.autograd.grad(summed, y, x.detach())[0], expanded)


def test_segments_refuse_the_wrong_side():
    plan = RAGGED.plan()
    with pytest.raises(ValueError, match="6 requests, 28 rows"):
        segment_expand(torch.zeros(plan.C, 2), plan)
    with pytest.raises(ValueError, match="28 candidates, 6 rows"):
        segment_sum(torch.zeros(plan.R, 2), plan)
