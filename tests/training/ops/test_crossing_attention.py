"""The theorem (deduplicated equals duplicated) and the paths without kernels, in fp64 to 1e-9."""

import re
from pathlib import Path

import pytest
import torch
from crossing_cases import CASES, NAMES, RAGGED, Case, error, oracle, run
from hypothesis import given, settings
from hypothesis import strategies as st

from training.ops import context_attention, crossing_attention, linear_gelu, naive


def check_against_naive(case, seed=0):
    *tensors, grad_out = case.tensors(torch.float64, seed=seed)
    plan = case.plan()
    want, want_grads = oracle(case, tensors, grad_out)
    got, grads = run(lambda *xs: crossing_attention(*xs, plan), tensors, grad_out)
    assert error(got[0], want[0]) < 1e-9
    for name, g, w in zip(NAMES, grads, want_grads, strict=True):
        assert error(g, w) < 1e-9, name


@pytest.mark.parametrize("case", CASES, ids=str)
def test_padded_path_equals_naive_in_outputs_and_gradients(case):
    check_against_naive(case)


@settings(max_examples=30, deadline=None)
@given(
    requests=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 40)), min_size=1, max_size=8),
    heads=st.sampled_from([(1, 1), (4, 2), (6, 2)]),
    width=st.sampled_from([4, 8, 16]),
    seed=st.integers(0, 99),
)
def test_padded_path_equals_naive_on_any_shape(requests, heads, width, seed):
    counts, lengths = zip(*requests, strict=True)
    if sum(counts):
        check_against_naive(Case(counts, lengths, *heads, width), seed)


def test_candidates_beyond_one_slice_and_blocks_beyond_one_length():
    check_against_naive(Case(counts=(300, 2, 270), lengths=(3, 90, 30), H=1, G=1, D=4))


@pytest.mark.parametrize("path", ["reference", "auto"])
def test_log_sum_exp_and_its_gradient(path, monkeypatch):
    monkeypatch.setenv("REQLAKE_KERNELS", path)
    *tensors, grad_out = RAGGED.tensors(torch.float64)
    grad_lse = torch.randn(grad_out.shape[:2], dtype=torch.float64)
    want, want_grads = oracle(RAGGED, tensors, grad_out, grad_lse=grad_lse, scale=0.3)
    fn = lambda *xs: crossing_attention(*xs, RAGGED.plan(), scale=0.3, return_lse=True)  # noqa: E731
    got, grads = run(fn, tensors, grad_out, grad_lse=grad_lse)
    for x, w in zip([*got, *grads], [*want, *want_grads], strict=True):
        assert error(x, w) < 1e-9


@pytest.mark.parametrize("path", ["reference", "auto"])
def test_crossing_passes_gradcheck(path, monkeypatch):
    monkeypatch.setenv("REQLAKE_KERNELS", path)
    case = Case(counts=(2, 0, 1), lengths=(3, 2, 0), H=2, G=1, D=2)
    *tensors, _ = case.tensors(torch.float64)
    plan = case.plan()
    assert torch.autograd.gradcheck(lambda *xs: crossing_attention(*xs, plan), [x.requires_grad_() for x in tensors])


@pytest.mark.parametrize("case", [c for c in CASES if sum(c.lengths)], ids=str)
def test_context_equals_naive_in_outputs_and_gradients(case):
    _, _, _, k, v, _ = case.tensors(torch.float64)
    q, grad_out = torch.randn(2, len(k), case.H, case.D, dtype=torch.float64)
    plan = case.plan()
    want, want_grads = run(lambda *xs: naive.context_attention(*xs, plan, case.D**-0.5), (q, k, v), grad_out)
    got, grads = run(lambda *xs: context_attention(*xs, plan), (q, k, v), grad_out)
    for x, w in zip([*got, *grads], [*want, *want_grads], strict=True):
        assert error(x, w) < 1e-9


@pytest.mark.parametrize("path", ["reference", "auto"])
def test_two_layers_equal_the_duplicated_model(path, monkeypatch):
    """Context then crossing, with a residual between: the same as running [history ; candidate] C times."""
    monkeypatch.setenv("REQLAKE_KERNELS", path)
    case, width = Case(counts=(3, 0, 1, 5), lengths=(6, 4, 0, 11), H=2, G=2, D=4), 8
    plan, scale = case.plan(), 4**-0.5
    g = torch.Generator().manual_seed(1)
    new = lambda *s: torch.randn(*s, generator=g, dtype=torch.float64)  # noqa: E731
    history, candidates, grad = new(plan.T, width), new(plan.C, width), new(plan.C, width)
    weights = [new(3, width, 2, 4) / 3 for _ in range(2)]

    def project(x, w):
        return tuple(torch.einsum("nw,iwhd->inhd", x, w))

    def deduplicated(x, c, *ws):
        for w in ws:
            (q, k, v), (cq, ck, cv) = project(x, w), project(c, w)
            c = c + crossing_attention(cq, ck, cv, k, v, plan).flatten(1)
            x = x + context_attention(q, k, v, plan).flatten(1)
        return c

    def duplicated(x, c, *ws):
        outs = []
        for t, rows in plan.slices():
            for i in range(rows.start, rows.stop):
                y = torch.cat([x[t], c[i : i + 1]])
                for w in ws:
                    y = y + naive.causal(*project(y, w), scale).flatten(1)
                outs.append(y[-1])
        return torch.stack(outs)

    want, want_grads = run(duplicated, (history, candidates, *weights), grad)
    got, grads = run(deduplicated, (history, candidates, *weights), grad)
    for x, w in zip([*got, *grads], [*want, *want_grads], strict=True):
        assert error(x, w) < 1e-9


def test_crossing_equals_the_duplicated_form():
    case = Case(counts=(3, 0, 1, 5), lengths=(6, 4, 0, 11))
    q, k_self, v_self, k, v, _ = case.tensors(torch.float64)
    plan = case.plan()
    want = naive.duplicated_attention((torch.zeros_like(k), k, v), (q, k_self, v_self), plan, 0.25)
    assert error(crossing_attention(q, k_self, v_self, k, v, plan), want) < 1e-9


def test_a_neighbours_nan_stays_with_the_neighbour():
    *tensors, grad_out = RAGGED.tensors(torch.float64)
    t, c = list(RAGGED.plan().slices())[3]
    for x in tensors[3:]:
        x[t] = float("nan")
    got, grads = run(lambda *xs: crossing_attention(*xs, RAGGED.plan()), tensors, grad_out)
    outside_C, outside_T = torch.ones(len(grad_out), dtype=bool), torch.ones(len(tensors[3]), dtype=bool)
    outside_C[c], outside_T[t] = False, False
    assert got[0][outside_C].isfinite().all()
    assert got[0][~outside_C].isnan().all()
    assert all(g[outside_C].isfinite().all() for g in grads[:3])
    assert all(g[outside_T].isfinite().all() for g in grads[3:])


def test_errors_name_what_is_wrong(monkeypatch):
    q, k_self, v_self, k, v, _ = RAGGED.tensors(torch.float64)
    plan = RAGGED.plan()
    with pytest.raises(ValueError, match="holds 118 history tokens, k and v 117"):
        crossing_attention(q, k_self, v_self, k[1:], v[1:], plan)
    with pytest.raises(ValueError, match="holds 28 candidates, q 27"):
        crossing_attention(q[1:], k_self, v_self, k, v, plan)
    with pytest.raises(ValueError, match="k_self and v_self must be"):
        crossing_attention(q, k_self[1:], v_self, k, v, plan)
    with pytest.raises(ValueError, match="do not share"):
        crossing_attention(q[:, :3], k_self, v_self, k, v, plan)
    with pytest.raises(ValueError, match="expected"):
        context_attention(q, k, v[1:], plan)
    with pytest.raises(ValueError, match="118 history tokens, q 28 rows"):
        context_attention(q, k, v, plan)
    monkeypatch.setenv("REQLAKE_KERNELS", "fast")
    with pytest.raises(ValueError, match="choose reference, triton or auto"):
        crossing_attention(q, k_self, v_self, k, v, plan)


def test_the_documented_example_runs():
    text = (Path(__file__).parents[3] / "docs" / "kernels.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(compile(example, "docs/kernels.md", "exec"), {})


def test_linear_with_gelu_is_both_in_turn_and_differentiable():
    x, weight, bias = (torch.randn(*n, dtype=torch.float64, requires_grad=True) for n in ((2, 3, 4), (5, 4), (5,)))
    got = linear_gelu(x, weight, bias)
    want = torch.nn.functional.gelu(x @ weight.T + bias, approximate="tanh")
    assert torch.equal(got, want)
    assert torch.autograd.gradcheck(linear_gelu, (x, weight, bias))
