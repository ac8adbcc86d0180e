"""Random ragged problems, and how a path is compared with fp64: outputs and the gradient of every input."""

import dataclasses

import torch

from training.ops import CrossingPlan, naive

NAMES = ("q", "k_self", "v_self", "k", "v")


@dataclasses.dataclass(frozen=True)
class Case:
    counts: tuple[int, ...]
    lengths: tuple[int, ...]
    H: int = 2
    G: int = 2
    D: int = 16

    def __str__(self):
        return f"N{max(self.counts)}-L{max(self.lengths)}-R{len(self.counts)}-H{self.H}-G{self.G}-D{self.D}"

    def plan(self, device="cpu"):
        return CrossingPlan.build(offsets(self.lengths), offsets(self.counts), device)

    def tensors(self, dtype, device="cpu", seed=0):
        """q, k_self, v_self, k, v, and a gradient for the output: fresh normal numbers, rounded to dtype."""
        g = torch.Generator().manual_seed(seed)
        C, T = sum(self.counts), sum(self.lengths)
        shapes = [(C, self.H), (C, self.G), (C, self.G), (T, self.G), (T, self.G), (C, self.H)]
        return [torch.randn(*s, self.D, generator=g, dtype=torch.float64).to(dtype).to(device) for s in shapes]


# Every irregularity once: one candidate, none, an empty history, lengths on both sides of a tile's edge.
RAGGED = Case(counts=(3, 1, 0, 17, 2, 5), lengths=(9, 0, 4, 40, 1, 64), H=4, G=2)
CASES = [
    Case(counts=(1,), lengths=(1,)),
    Case(counts=(4, 2), lengths=(0, 0)),
    Case(counts=(1, 1, 1), lengths=(7, 3, 5), H=3, G=1, D=8),
    Case(counts=(0, 6), lengths=(5, 20)),
    RAGGED,
]


def offsets(lengths):
    return torch.tensor([0, *lengths]).cumsum(0)


def leaves(tensors):
    return [x.detach().clone().requires_grad_() for x in tensors]


def run(fn, tensors, grad_out, *, grad_lse=None):
    """Output (and lse) of fn over fresh leaves, and each leaf's gradient, zeros where it took no part."""
    xs = leaves(tensors)
    out = fn(*xs)
    outs, grads = ((out,), (grad_out,)) if grad_lse is None else (out, (grad_out, grad_lse))
    got = torch.autograd.grad(outs, xs, grads, allow_unused=True)
    return [x.detach() for x in outs], [torch.zeros_like(x) if g is None else g for x, g in zip(xs, got, strict=True)]


def oracle(case, tensors, grad_out, *, grad_lse=None, scale=None):
    """`naive.crossing_attention` in fp64 over the same (rounded) numbers."""
    plan, scale = case.plan(), case.D**-0.5 if scale is None else scale

    def fn(*xs):
        out, lse = naive.crossing_attention(*xs, plan, scale)
        return out if grad_lse is None else (out, lse)

    wide = [x.double().cpu() for x in tensors]
    wide_lse = None if grad_lse is None else grad_lse.double().cpu()
    return run(fn, wide, grad_out.double().cpu(), grad_lse=wide_lse)


def error(x, reference):
    """||x - reference|| / ||reference||, and the plain norm where the reference is zero. NaN never passes."""
    difference = (x.double().cpu() - reference).norm()
    return float(difference / reference.norm()) if reference.norm() > 0 else float(difference)
