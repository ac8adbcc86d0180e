"""The kernels under Triton's interpreter; run by `test_kernels.py` in a process of its own.

fp32 and fp16 only: the interpreter's bf16 products are wrong. Every output is poisoned before a kernel runs,
so an element that no program writes shows.
"""

import math

import pytest
import torch
from crossing_cases import CASES, NAMES, RAGGED, Case, error, leaves, oracle, run
from hypothesis import given, settings
from hypothesis import strategies as st

from training.ops import crossing_attention, paged_crossing_attention, segment_expand, segment_sum
from training.ops.kernels import crossing_launch
from training.ops.kernels.tiles import Tile, Tiles

pytestmark = pytest.mark.filterwarnings(
    "ignore:All-NaN slice:RuntimeWarning",  # numpy's, of a request that is NaN on purpose
    "ignore:invalid value encountered:RuntimeWarning",
    "ignore:The .grad attribute of a Tensor that is not a leaf",  # opcheck's own doing
)
LIMIT = {torch.float32: 5e-6, torch.float16: 1.5e-3}
MORE = [
    Case((70, 0, 3), (33, 20, 130), H=2, G=1, D=32),
    Case((3,), (1100,), H=1, G=1, D=16),  # one program: the history is split
    Case((5, 2), (19, 3), H=6, G=2, D=12),  # neither width nor group a power of two
    Case((2, 1), (9, 3), H=16, G=1, D=16),
]
# what sm90's table uses and the safe one does not: descriptors, both backwards, uneven tiles
FORCED = {
    "one tile, descriptors": Tiles(
        Tile(32, 32, 4, 1, tma=True), Tile(32, 16, 4, 1, tma=True), *[Tile(16, 32, 4, 1)] * 2
    ),
    "one tile for some": Tiles(Tile(16, 32, 4, 1), Tile(16, 32, 4, 1), *[Tile(16, 32, 4, 1)] * 2),
    "two passes, descriptors": Tiles(Tile(16, 64, 4, 1, tma=True), None, *[Tile(16, 32, 4, 1, tma=True)] * 2),
    "two passes, tall columns": Tiles(Tile(64, 16, 4, 1), None, Tile(32, 64, 4, 1), Tile(16, 64, 4, 1)),
}


@pytest.fixture(autouse=True)
def _poison(monkeypatch):
    def poisoned(make):
        def new(*args, **kwargs):
            x = make(*args, **kwargs)
            return x.fill_(math.nan) if x.is_floating_point() else x

        return new

    monkeypatch.setattr(torch.Tensor, "new_empty", poisoned(torch.Tensor.new_empty))
    monkeypatch.setattr(torch, "empty_like", poisoned(torch.empty_like))


def check(case, dtype, seed=0):
    *tensors, grad_out = case.tensors(dtype, seed=seed)
    grad_lse = torch.randn(grad_out.shape[:2], generator=torch.Generator().manual_seed(seed))
    want, want_grads = oracle(case, tensors, grad_out, grad_lse=grad_lse)
    fn = lambda *xs: crossing_attention(*xs, case.plan(), return_lse=True)  # noqa: E731
    got, grads = run(fn, tensors, grad_out, grad_lse=grad_lse)
    for name, x, w in zip(("out", "lse", *NAMES), [*got, *grads], [*want, *want_grads], strict=True):
        assert error(x, w) < LIMIT[dtype], name


@pytest.mark.parametrize("dtype", LIMIT, ids=str)
@pytest.mark.parametrize("case", [*CASES, *MORE], ids=str)
def test_outputs_lse_and_gradients(case, dtype):
    check(case, dtype)


@pytest.mark.parametrize("counts", [(20, 0, 1, 30), (20, 0, 16, 9)], ids=str)
@pytest.mark.parametrize("tiles", FORCED)
def test_tiles_of_other_cards(counts, tiles, monkeypatch):
    case = Case(counts, (17, 40, 0, 150), H=2, G=2, D=16)
    monkeypatch.setattr(crossing_launch, "choose_tiles", lambda *_: FORCED[tiles])
    check(case, torch.float32)
    *tensors, grad_out = case.tensors(torch.float32)
    check_nan(case, tensors, grad_out)


@settings(max_examples=6, deadline=None)
@given(
    requests=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 70)), min_size=1, max_size=4),
    heads=st.sampled_from([(1, 1), (2, 1), (4, 2)]),
    seed=st.integers(0, 99),
)
def test_any_shape(requests, heads, seed):
    counts, lengths = zip(*requests, strict=True)
    if sum(counts):
        check(Case(counts, lengths, *heads, 16), torch.float32, seed)


def check_nan(case, tensors, grad_out):
    """A request of NaN beside others: nothing of it may reach them, forward or backward."""
    plan = case.plan()
    t, c = max(plan.slices(), key=lambda s: s[0].stop - s[0].start)
    for x, rows in zip((*tensors, grad_out), (c, c, c, t, t, c), strict=True):
        x[rows] = math.nan
    got, grads = run(lambda *xs: crossing_attention(*xs, plan), tensors, grad_out)
    outside_C, outside_T = torch.ones(plan.C, dtype=bool), torch.ones(plan.T, dtype=bool)
    outside_C[c], outside_T[t] = False, False
    assert got[0][outside_C].isfinite().all()
    assert all(g[outside_C].isfinite().all() for g in grads[:3])
    assert all(g[outside_T].isfinite().all() for g in grads[3:])


def test_a_neighbours_nan_stays_with_the_neighbour():
    *tensors, grad_out = RAGGED.tensors(torch.float32)
    check_nan(RAGGED, tensors, grad_out)


def test_no_candidates_at_all():
    case = Case((0, 0), (5, 40))
    *tensors, grad_out = case.tensors(torch.float32)
    got, grads = run(lambda *xs: crossing_attention(*xs, case.plan()), tensors, grad_out)
    assert got[0].shape == (0, 2, 16)
    assert all(not g.any() for g in grads)


def test_same_input_same_bits():
    *tensors, grad_out = RAGGED.tensors(torch.float32)
    (a, da), (b, db) = (run(lambda *xs: crossing_attention(*xs, RAGGED.plan()), tensors, grad_out) for _ in range(2))
    assert all(torch.equal(x, y) for x, y in zip([*a, *da], [*b, *db], strict=True))


@pytest.mark.parametrize("page", [16, 24])
def test_pages_equal_the_contiguous_form(page):
    q, k_self, v_self, k, v, _ = RAGGED.tensors(torch.float32)
    plan = RAGGED.plan()
    width = math.ceil(plan.max_length / page)
    table = torch.randperm(plan.R * width, generator=torch.Generator().manual_seed(0)).view(plan.R, width)
    k_pages, v_pages = (torch.full((plan.R * width, page, *k.shape[1:]), math.nan) for _ in range(2))
    for r, (t, _) in enumerate(plan.slices()):
        for n in range(t.stop - t.start):
            k_pages[table[r, n // page], n % page] = k[t.start + n]
            v_pages[table[r, n // page], n % page] = v[t.start + n]
    got = paged_crossing_attention(q, k_self, v_self, k_pages, v_pages, table.int(), plan)
    assert error(got, crossing_attention(q, k_self, v_self, k, v, plan).double()) < 1e-5


@pytest.mark.parametrize("shape", [(), (3,), (2, 150)])
def test_segments(shape):
    plan = RAGGED.plan()
    x = torch.randn(plan.R, *shape, requires_grad=True)
    y = torch.randn(plan.C, *shape, requires_grad=True)
    expanded, summed = segment_expand(x, plan), segment_sum(y, plan)
    assert torch.equal(expanded, x[plan.request_index])
    assert torch.allclose(summed, torch.stack([part.sum(0) for part in y.split(RAGGED.counts)]), atol=1e-5)
    assert torch.allclose(torch.autograd.grad(expanded, x, y.detach())[0], summed)
    assert torch.equal(torch.autograd.grad(summed, y, x.detach())[0], expanded)


def test_rows_of_a_fused_projection():
    q, k_self, v_self, k, v, _ = (x for x in RAGGED.tensors(torch.float32))
    fused_C, fused_T = torch.cat([k_self, v_self], 1), torch.cat([k, v], 1)
    got = crossing_attention(q, *fused_C.split(2, 1), *fused_T.split(2, 1), RAGGED.plan())
    assert torch.equal(got, crossing_attention(q, k_self, v_self, k, v, RAGGED.plan()))


def test_operators_pass_opcheck_and_compile_whole():
    case = Case((3, 1), (9, 4), H=2, G=1)
    *tensors, _ = case.tensors(torch.float32)
    plan = case.plan()
    arguments = (*leaves(tensors), plan.layout, plan.sizes, 0.25)
    torch.library.opcheck(torch.ops.reqlake.crossing_forward.default, arguments)
    rows, width = torch.randn(plan.C, 8, requires_grad=True), torch.randn(plan.R, 8, requires_grad=True)
    torch.library.opcheck(torch.ops.reqlake.sum_rows.default, (rows, plan.request_index, plan.layout[1]))
    torch.library.opcheck(torch.ops.reqlake.expand_rows.default, (width, plan.request_index, plan.layout[1]))

    def step(*xs):
        out, lse = crossing_attention(*(x * 1.0 for x in xs), plan, return_lse=True)
        return out.square().sum() + lse.sum() + segment_sum(out.flatten(1), plan).square().sum()

    xs = leaves(tensors)
    want = torch.autograd.grad(step(*xs), xs)
    got = torch.autograd.grad(torch.compile(step, fullgraph=True, backend="aot_eager")(*xs), xs)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(got, want, strict=True))
