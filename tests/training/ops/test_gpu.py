"""Kernels on a card, against fp64. Runs on a bare machine too: `python -m pytest tests/training/ops/test_gpu.py`.

A kernel may err at most twice as much as torch's own arithmetic in the same dtype does.
"""

import dataclasses
import math

import pytest
import torch
from crossing_cases import NAMES, RAGGED, Case, error, leaves, offsets, oracle, run

from training.ops import (
    CrossingPlan,
    context_attention,
    crossing_attention,
    linear_gelu,
    naive,
    padded,
    paged_crossing_attention,
    segment_expand,
    segment_sum,
)
from training.ops.fallback import Health

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION"),  # Triton 3.9, of its next default
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

ATOL = {torch.bfloat16: 2e-3, torch.float16: 3e-4, torch.float32: 2e-6}
CASES = [
    RAGGED,
    Case((16, 7, 1, 0, 12), (100, 0, 513, 7, 64), H=8, G=8, D=64),
    Case((24, 31, 1, 0, 32), (100, 0, 513, 7, 64), H=4, G=4, D=64),
    Case((60, 31, 64, 0, 5), (100, 0, 513, 7, 1000), H=4, G=4, D=64),
    Case((128, 31, 1, 0, 77), (100, 0, 513, 7, 64), H=4, G=4, D=128),
    Case((500, 31, 1, 0, 130), (1000, 0, 65, 7, 640), H=8, G=8, D=64),
    Case((500, 31, 1, 0, 130), (1000, 0, 65, 7, 2500), H=8, G=8, D=128),
    Case((200, 3, 40), (300, 17, 129), H=8, G=2, D=64),
    Case((200, 3, 40), (300, 17, 129), H=8, G=1, D=128),
    Case((70, 3), (300, 17), H=2, G=2, D=32),
    Case((70, 3), (300, 17), H=2, G=2, D=256),
    Case((20, 3), (300, 17), H=6, G=2, D=96),
]


@pytest.fixture(autouse=True)
def _kernels_run():
    """A fall back to plain torch would pass every comparison here."""
    torch.manual_seed(0)
    yield
    assert not Health.broken


def logsumexp_of(*xs, plan, scale):
    return naive.crossing_attention(*xs, plan, scale)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_outputs_lse_and_gradients(case, dtype):
    *tensors, grad_out = case.tensors(dtype, "cuda", seed=sum(case.counts))
    grad_lse = torch.randn(grad_out.shape[:2], device="cuda")
    plan = case.plan("cuda")
    want, want_grads = oracle(case, tensors, grad_out, grad_lse=grad_lse)
    fn = lambda *xs: crossing_attention(*xs, plan, return_lse=True)  # noqa: E731
    got, grads = run(fn, tensors, grad_out, grad_lse=grad_lse)
    plain = lambda *xs: logsumexp_of(*xs, plan=plan, scale=case.D**-0.5)  # noqa: E731
    usual, usual_grads = run(plain, tensors, grad_out, grad_lse=grad_lse.to(dtype))
    names = ("out", "lse", *NAMES)
    for name, x, w, u in zip(names, [*got, *grads], [*want, *want_grads], [*usual, *usual_grads], strict=True):
        assert error(x, w) <= 2 * error(u, w) + ATOL[dtype], name


@pytest.mark.parametrize("case", CASES[:6], ids=str)
def test_tf32_when_torch_allows_it(case):
    *tensors, grad_out = case.tensors(torch.float32, "cuda")
    want, want_grads = oracle(case, tensors, grad_out)
    torch.set_float32_matmul_precision("high")
    try:
        got, grads = run(lambda *xs: crossing_attention(*xs, case.plan("cuda")), tensors, grad_out)
    finally:
        torch.set_float32_matmul_precision("highest")
    # ten bits of mantissa, truncated in the scores too: within twice bf16's error
    errors = {n: error(x, w) for n, x, w in zip(("out", *NAMES), [*got, *grads], [*want, *want_grads], strict=True)}
    assert max(errors.values()) < 5e-3, errors


@pytest.mark.parametrize("case", CASES, ids=str)
def test_same_input_same_bits(case):
    *tensors, grad_out = case.tensors(torch.bfloat16, "cuda")
    plan = case.plan("cuda")
    first, *others = (run(lambda *xs: crossing_attention(*xs, plan), tensors, grad_out) for _ in range(4))
    for out, grads in others:
        assert torch.equal(out[0], first[0][0])
        assert all(torch.equal(a, b) for a, b in zip(grads, first[1], strict=True))


@pytest.mark.parametrize("case", CASES[1:7], ids=str)
def test_a_neighbours_nan_stays_with_the_neighbour(case):
    *tensors, grad_out = case.tensors(torch.bfloat16, "cuda")
    plan = case.plan("cuda")
    t, c = list(plan.slices())[2]
    for x, rows in zip((*tensors, grad_out), (c, c, c, t, t, c), strict=True):
        x[rows] = float("nan")
    got, grads = run(lambda *xs: crossing_attention(*xs, plan), tensors, grad_out)
    outside_C, outside_T = torch.ones(plan.C, dtype=bool), torch.ones(plan.T, dtype=bool)
    outside_C[c], outside_T[t] = False, False
    assert got[0][outside_C].isfinite().all()
    assert all(g[outside_C].isfinite().all() for g in grads[:3])
    assert all(g[outside_T].isfinite().all() for g in grads[3:])


# every irregularity of CASES, and enough tiles for each multiprocessor; the batch need not be full to be right
HOPPER = Case((257, 3, 0, 200, 129), (33, 0, 50, 300, 128), H=32, G=32, D=64)


@pytest.fixture
def hopper_launches(monkeypatch):
    """The kernel for sm90 on any batch; how often it was launched."""
    from training.ops.kernels import crossing_launch

    if torch.cuda.get_device_capability() != (9, 0):
        pytest.skip("a kernel for sm90")
    launches, launch = [], crossing_launch.hopper_forward
    monkeypatch.setattr(crossing_launch, "takes_hopper", lambda *_: True)
    monkeypatch.setattr(crossing_launch, "hopper_forward", lambda *x: launches.append(launch(*x)))
    return launches


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("D", [64, 128])
def test_the_kernel_for_sm90(D, dtype, hopper_launches):
    case = dataclasses.replace(HOPPER, D=D)
    *tensors, grad_out = case.tensors(dtype, "cuda")
    plan = case.plan("cuda")
    wide = [x.double() for x in tensors]
    want, want_grads = run(lambda *xs: padded.crossing_attention(*xs, plan, D**-0.5), wide, grad_out.double())
    usual, _ = run(lambda *xs: padded.crossing_attention(*xs, plan, D**-0.5), tensors, grad_out)
    got, grads = run(lambda *xs: crossing_attention(*xs, plan), tensors, grad_out)
    assert len(hopper_launches) == 1
    assert error(got[0], want[0].cpu()) <= 2 * error(usual[0], want[0].cpu()) + ATOL[dtype]
    assert all(error(g, w.cpu()) < 1e-2 for g, w in zip(grads, want_grads, strict=True))
    lse = padded.crossing_lse(wide[0], wide[1], wide[3], plan, D**-0.5)
    out, got_lse = crossing_attention(*tensors, plan, return_lse=True)
    assert error(got_lse, lse.cpu()) < 1e-4
    assert torch.equal(out, got[0])  # the same bits


@pytest.mark.parametrize("poisoned", [0, 2, 3])
def test_a_neighbours_nan_stays_with_the_neighbour_on_sm90(poisoned, hopper_launches):
    *tensors, _ = HOPPER.tensors(torch.bfloat16, "cuda")
    plan = HOPPER.plan("cuda")
    clean = crossing_attention(*tensors, plan)
    t, c = list(plan.slices())[poisoned]
    for x, rows in zip(tensors, (c, c, c, t, t), strict=True):
        x[rows] = float("nan")
    outside = torch.ones(plan.C, dtype=bool)
    outside[c] = False
    assert torch.equal(crossing_attention(*tensors, plan)[outside], clean[outside])
    assert len(hopper_launches) == 2


def test_full_batches_take_the_kernel_for_sm90(monkeypatch, hopper_launches):
    from training.ops.kernels import crossing_launch, hopper_launch

    monkeypatch.setattr(crossing_launch, "takes_hopper", hopper_launch.takes_hopper)
    for counts, launched in (((256,) * 4, 1), ((256, 3, 3, 3), 1), ((256,) * 4, 2)):
        case = Case(counts, (300,) * 4, H=32, G=32, D=64)
        *tensors, _ = case.tensors(torch.bfloat16, "cuda")
        crossing_attention(*tensors, case.plan("cuda"))
        assert len(hopper_launches) == launched


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_linear_with_gelu(dtype):
    x, weight = (torch.randn(n, 64, device="cuda").to(dtype) for n in (100, 128))
    bias = torch.randn(128, device="cuda").to(dtype)
    want = torch.nn.functional.gelu(x.double() @ weight.double().T + bias.double(), approximate="tanh")
    assert error(linear_gelu(x, weight, bias), want.cpu()) < 2 * torch.finfo(dtype).eps
    assert error(linear_gelu(x.view(10, 10, 64), weight, bias).view(100, -1), want.cpu()) < 2 * torch.finfo(dtype).eps
    torch.library.opcheck(torch.ops.reqlake.linear_gelu.default, (x, weight, bias))
    xs = leaves([x, weight, bias])
    assert all(g.isfinite().all() for g in torch.autograd.grad(linear_gelu(*xs).float().sum(), xs))


def test_rows_of_a_fused_projection_need_no_copy():
    case = CASES[5]
    q, k_self, v_self, k, v, grad_out = case.tensors(torch.bfloat16, "cuda")
    plan = case.plan("cuda")
    candidate, history = torch.cat([q, k_self, v_self], 1), torch.cat([k, k, v], 1)

    def sliced(x, y):
        q, k_self, v_self = x.split(8, 1)
        _, k, v = y.split(8, 1)
        return crossing_attention(q, k_self, v_self, k, v, plan)

    out, _ = run(sliced, (candidate, history), grad_out)
    assert torch.equal(out[0], crossing_attention(q, k_self, v_self, k, v, plan))


@pytest.mark.parametrize(
    "case",
    [
        Case((3,), (16384,), H=4, G=4, D=64),
        Case((4096,), (64,), H=4, G=4, D=64),
        Case((4096,), (0,), H=4, G=4, D=64),
        Case(tuple(i % 5 for i in range(1024)), tuple(i % 67 for i in range(1024)), H=4, G=4, D=64),
    ],
    ids=str,
)
def test_extremes_one_axis_at_a_time(case):
    *tensors, grad_out = case.tensors(torch.bfloat16, "cuda")
    plan, wide = case.plan("cuda"), [x.double() for x in tensors]
    # padded SDPA in fp64 is itself held to the oracle, and needs no expanded history
    want, want_grads = run(lambda *xs: padded.crossing_attention(*xs, plan, case.D**-0.5), wide, grad_out.double())
    got, grads = run(lambda *xs: crossing_attention(*xs, plan), tensors, grad_out)
    for x, w in zip([*got, *grads], [*want, *want_grads], strict=True):
        assert error(x, w.cpu()) < 1e-2


@pytest.mark.parametrize("page", [16, 24, 128])
@pytest.mark.parametrize("case", [RAGGED, CASES[1], CASES[5], CASES[7]], ids=str)
def test_pages_equal_the_contiguous_form(case, page):
    q, k_self, v_self, k, v, _ = case.tensors(torch.bfloat16, "cuda")
    plan = case.plan("cuda")
    width = max(1, math.ceil(plan.max_length / page))
    pages = torch.randperm(plan.R * width, generator=torch.Generator().manual_seed(0)).view(plan.R, width)
    k_pages, v_pages = (torch.full((plan.R * width, page, *k.shape[1:]), math.nan).to(k) for _ in range(2))
    for r, (t, _) in enumerate(plan.slices()):
        for i, start in enumerate(range(t.start, t.stop, page)):
            rows = slice(start, min(start + page, t.stop))
            k_pages[pages[r, i], : rows.stop - start], v_pages[pages[r, i], : rows.stop - start] = k[rows], v[rows]
    got = paged_crossing_attention(q, k_self, v_self, k_pages, v_pages, pages.int().cuda(), plan)
    assert error(got, crossing_attention(q, k_self, v_self, k, v, plan).double().cpu()) < 4e-3


@pytest.mark.parametrize("lengths", [(300, 0, 17, 64), (128, 128)], ids=["ragged", "equal"])
@pytest.mark.parametrize("heads", [(4, 4), (4, 2)], ids=["H4-G4", "H4-G2"])
def test_context_attention(lengths, heads):
    case = Case((1,) * len(lengths), lengths, *heads, D=64)
    *_, k, v, _ = case.tensors(torch.bfloat16, "cuda")
    q, grad_out = torch.randn(2, len(k), case.H, case.D, device="cuda").bfloat16()
    wide = [x.double().cpu() for x in (q, k, v)]
    want, want_grads = run(
        lambda *xs: naive.context_attention(*xs, case.plan(), case.D**-0.5), wide, grad_out.double().cpu()
    )
    got, grads = run(lambda *xs: context_attention(*xs, case.plan("cuda")), (q, k, v), grad_out)
    for x, w in zip([*got, *grads], [*want, *want_grads], strict=True):
        assert error(x, w) < 1e-2


@pytest.mark.parametrize("width", [1, 100, 512])
def test_segments(width):
    plan = RAGGED.plan("cuda")
    x = torch.randn(plan.R, width, device="cuda", requires_grad=True)
    y = torch.randn(plan.C, width, device="cuda", requires_grad=True)
    expanded, summed = segment_expand(x, plan), segment_sum(y, plan)
    assert torch.equal(expanded, x[plan.request_index])
    want = torch.stack([part.double().sum(0) for part in y.detach().cpu().split(RAGGED.counts)])
    assert error(summed.detach(), want) < 1e-6
    assert torch.equal(torch.autograd.grad(expanded, x, y.detach())[0], summed)
    assert torch.equal(torch.autograd.grad(summed, y, x.detach())[0], expanded)


def step(q, k_self, v_self, k, v, plan):
    out, lse = crossing_attention(q * 1.0, k_self, v_self, k, v, plan, return_lse=True)
    return out.float().square().sum() + lse.sum() + segment_sum(out.flatten(1), plan).float().sum()


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch", "ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("case", [CASES[1], CASES[5]], ids=str)
def test_compiles_whole_and_operators_pass_opcheck(case):
    *tensors, _ = case.tensors(torch.bfloat16, "cuda")
    plan = case.plan("cuda")
    xs = leaves(tensors)
    want = torch.autograd.grad(step(*xs, plan), xs)
    got = torch.autograd.grad(torch.compile(step, fullgraph=True)(*xs, plan), xs)
    assert all(error(a, b.double().cpu()) < 1e-2 for a, b in zip(got, want, strict=True))
    arguments = (*leaves(tensors), plan.layout, plan.sizes, 0.125)
    torch.library.opcheck(torch.ops.reqlake.crossing_forward.default, arguments)
    rows = torch.randn(plan.C, 8, device="cuda", requires_grad=True)
    torch.library.opcheck(torch.ops.reqlake.sum_rows.default, (rows, plan.request_index, plan.layout[1]))


def test_replays_in_a_cuda_graph():
    case = CASES[5]
    *tensors, grad_out = case.tensors(torch.bfloat16, "cuda")
    plan, xs = case.plan("cuda"), leaves(tensors)
    torch.autograd.grad(crossing_attention(*xs, plan), xs, grad_out)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = crossing_attention(*xs, plan)
        grads = torch.autograd.grad(out, xs, grad_out)
    *fresh, _ = case.tensors(torch.bfloat16, "cuda", seed=5)
    for x, y in zip(xs, fresh, strict=True):
        x.data.copy_(y)
    graph.replay()
    want, want_grads = run(lambda *ys: crossing_attention(*ys, plan), fresh, grad_out)
    assert torch.equal(out, want[0])
    assert all(torch.equal(a, b) for a, b in zip(grads, want_grads, strict=True))


@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
def test_no_synchronisation():
    case = CASES[1]
    *tensors, grad_out = case.tensors(torch.bfloat16, "cuda")
    fn = lambda *xs: crossing_attention(*xs, case.plan("cuda"))  # noqa: E731
    run(fn, tensors, grad_out)
    plan, xs = CrossingPlan.build(offsets(case.lengths), offsets(case.counts), "cuda"), leaves(tensors)
    torch.cuda.set_sync_debug_mode("error")
    try:
        torch.autograd.grad(crossing_attention(*xs, plan), xs, grad_out)
    finally:
        torch.cuda.set_sync_debug_mode("default")
