# ruff: noqa: SLF001 - torch._dynamo is how one sets its limits
"""Crossing attention and stacks of DCAT layers against everything torch offers, on one card.

    python -m benchmarks.crossing_attention [--quick] [--parts kernels stack step] [--out FILE] [--keep FILE]

Writes {name, machine, settings, rows, ratios}; `kept` names the machine of parts taken from an earlier result.
Medians of CUDA graph replays on random bf16 data with the L2 flushed; every form is checked against fp64 first, and a
wrong one takes part in no ratio. Forms: (a) duplicated, (b) expanded, (c) masked SDPA, (d) FlexAttention, (e) packed
flash + merge, (f) cuDNN without the self token (a ceiling, as it computes less) and with a merge, (g) the plain stack
compiled whole, (h) ours. (a) and (b) run on a sample of the candidates and are scaled to all.
Needs torch, triton and this repository, nothing else.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from benchmarks.crossing import baselines, stack
from benchmarks.crossing.problem import SHAPES, Problem, clock, error, log_uniform, machine
from training.ops import linear_gelu
from training.ops.fallback import Health

Row = dict[str, Any]
RIGHT = 1e-2
# Inductor compiles FlexAttention anew for each batch: four of them stand for all
FLEX = {(SHAPES[0], "equal"), (SHAPES[0], "ragged"), (SHAPES[4], "ragged"), (SHAPES[5], "ragged")}
STACKS = [(512, 4), (1024, 6)]


class Ours:
    """(h) the operators of `training.ops`, forward and backward apart."""

    def __init__(self, problem: Problem) -> None:
        self.p, plan = problem, problem.plan
        self.layout = (plan.layout, plan.sizes, problem.D**-0.5)

    def forward(self) -> torch.Tensor:
        """The output."""
        self.o, self.lse = torch.ops.reqlake.crossing_forward(*self.p.tensors[:5], *self.layout)
        return self.o

    def backward(self) -> tuple[torch.Tensor, ...]:
        """The five gradients."""
        *inputs, do = self.p.tensors
        return torch.ops.reqlake.crossing_backward(do, None, *inputs, self.o, self.lse, *self.layout)


def forms(problem: Problem, shape: tuple[int, ...], kind: str) -> Iterable[tuple[str, Callable[[], Any]]]:
    """Name and maker of every whole form that takes this batch."""
    yield "ours", lambda: Ours(problem)
    yield "flash + merge", lambda: baselines.Flash(problem)
    yield "masked SDPA", lambda: baselines.masked_sdpa(problem)
    if kind == "equal":
        yield "cuDNN without self", lambda: baselines.Cudnn(problem, merged=False)
        yield "cuDNN + merge", lambda: baselines.Cudnn(problem, merged=True)
    if (shape, kind) in FLEX:
        yield "FlexAttention", lambda: baselines.flex(problem)


def kernel_rows(shape: tuple[int, int, int, int, int], kind: str, ms: int) -> list[Row]:
    """Every form on one batch."""
    problem, rows = Problem.of(shape, kind), []
    about = {"part": "kernels", "shape": list(shape), "kind": kind}
    for name, make in forms(problem, shape, kind):
        try:
            form = make()
            out, grads = form.forward(), form.backward()
            row = {**about, "form": name}
            if name != "cuDNN without self":
                row["error"] = error(out, problem.answer[0])
                row["error_gradients"] = max(error(x, y) for x, y in zip(grads, problem.answer[1:], strict=True))
            del out, grads
            row["forward_us"] = clock(form.forward, ms) * 1e3
            form.forward()
            if isinstance(form, baselines.Autograd):
                # its backward runs on autograd's own stream of the forward: timed with it, and the forward taken off
                both = clock(lambda f=form: (f.forward(), f.backward()), ms) * 1e3
                row["backward_us"] = both - row["forward_us"]
            else:
                row["backward_us"] = clock(form.backward, ms) * 1e3
            row["forward_tflops"] = problem.flop / row["forward_us"] / 1e6
            row["backward_tflops"] = 2.5 * problem.flop / row["backward_us"] / 1e6
            row["forward_gbs"] = problem.bytes_forward / row["forward_us"] / 1e3
            rows.append(row)
        except (RuntimeError, torch.cuda.OutOfMemoryError) as failure:
            rows.append({**about, "form": name, "failed": str(failure).splitlines()[0][:200]})
        form = None
        gc.collect()
    for name, make in (("duplicated", baselines.duplicated), ("expanded", baselines.expanded)):
        try:
            forward, both, share = make(problem)
            forward_us, both_us = clock(forward, ms) / share * 1e3, clock(both, ms) / share * 1e3
            row = {"forward_us": forward_us, "backward_us": both_us - forward_us, "sampled_share": share}
            rows.append({**about, "form": name, **row})
        except (RuntimeError, torch.cuda.OutOfMemoryError) as failure:
            rows.append({**about, "form": name, "failed": str(failure).splitlines()[0][:200]})
        forward = both = None
        torch.cuda.empty_cache()
    return rows


def make_stack(width: int, layers: int) -> stack.Stack:
    """Weights shared by every form."""
    torch.manual_seed(0)
    torch._dynamo.reset()
    return stack.Stack(width, 8, layers).cuda().bfloat16()


def stack_rows(width: int, layers: int, kind: str, ms: int, peak: float) -> list[Row]:
    """Forward of a whole stack: R=16, N=512, L=512 or log-uniform with that mean."""
    net = make_stack(width, layers)
    lengths = [512] * 16 if kind == "equal" else log_uniform(512, 16, 5)
    batch = stack.Batch.of([512] * 16, lengths, width)
    makers = {"ours": stack.ours, "plain padded": stack.plain, "stock packed": stack.stock_packed}
    # what our attentions alone are worth in a stack
    makers["stock packed, our GELU"] = lambda net, batch: stack.stock_packed(net, batch, linear_gelu)
    if kind == "equal":
        makers["plain merged"] = stack.plain_merged
    about = {"part": "stack", "shape": [width, layers, 16, 512, 512], "kind": kind}
    rows, flop = [], stack.flop(net, batch)
    with torch.no_grad():
        first = None
        for name, make in makers.items():
            try:
                run = make(net, batch)
                out = run().double()
                first = out if first is None else first
                row = {**about, "form": name, "difference": error(out, first), "ms": clock(run, ms)}
            except RuntimeError as failure:
                rows.append({**about, "form": name, "failed": str(failure).splitlines()[0][:200]})
                continue
            rows.append({**row, "tflops": flop / row["ms"] / 1e9, "share_of_matmul": flop / row["ms"] / 1e9 / peak})
        run, share, picked = stack.duplicated(net, batch, 1 << 16)
        row = {"difference": error(run(), first[picked]), "ms": clock(run, ms) / share}
        rows.append({**about, "form": "duplicated", **row, "sampled_share": share})
    return rows


def step_rows(kind: str, ms: int) -> list[Row]:
    """Forward and backward of a stack: width 512, 4 layers, R=64, N=24, L=512 or log-uniform."""
    net = make_stack(512, 4)
    lengths = [512] * 64 if kind == "equal" else log_uniform(512, 64, 5)
    counts = [24] * 64 if kind == "equal" else [min(128, n) for n in log_uniform(24, 64, 6)]
    batch = stack.Batch.of(counts, lengths, 512)
    parameters = list(net.parameters())
    about = {"part": "step", "shape": [512, 4, 64, 24, 512], "kind": kind}
    rows: list[Row] = []
    makers = {
        "ours": lambda: (stack.ours(net, batch), 1.0),
        "plain padded": lambda: (stack.plain(net, batch), 1.0),
        "duplicated": lambda: stack.duplicated(net, batch, 100_000)[:2],
    }
    for name, make in makers.items():
        run, share = make()

        def train(run: Callable[[], torch.Tensor] = run) -> Any:
            return torch.autograd.grad(run().float().square().mean(), parameters, allow_unused=True)

        rows.append({**about, "form": name, "ms": clock(train, ms) / share, "sampled_share": share})
        gc.collect()
        torch.cuda.empty_cache()
    return rows


def ratios(rows: list[Row], ceilings: dict[str, Any]) -> dict[str, float]:
    """The claims of issue 8, each the minimum over its shapes."""
    kernels = [r for r in rows if r["part"] == "kernels" and "failed" not in r]

    def over(forms_of: set[str], what: str, kind: str, shapes: list[int]) -> list[float]:
        """Best of the named forms over ours, a value a shape."""
        out = []
        for shape in (SHAPES[i] for i in shapes):
            here = [r for r in kernels if tuple(r["shape"]) == shape and r["kind"] == kind]
            which = "error" if what == "forward_us" else "error_gradients"
            others = [r[what] for r in here if r["form"] in forms_of and r.get(which, 0.0) < RIGHT]
            mine = [r[what] for r in here if r["form"] == "ours" and r[which] < RIGHT]
            if others and mine:
                out.append(min(others) / mine[0])
        return out

    stock = {"flash + merge", "masked SDPA", "FlexAttention"}
    ceiling, merged = {"cuDNN without self"}, {"cuDNN + merge"}
    found = {
        "fwd_over_cudnn_d64": over(ceiling, "forward_us", "equal", [0, 1]),
        "fwd_over_cudnn_d128_short": over(ceiling, "forward_us", "equal", [2]),
        "fwd_over_cudnn_d128_long": over(ceiling, "forward_us", "equal", [3]),
        "fwd_over_cudnn_small_n": over(ceiling, "forward_us", "equal", [5]),
        "fwd_over_stock_ragged": over(stock, "forward_us", "ragged", [0, 1, 2, 3, 4, 5]),
        "bwd_over_stock_ragged": over(stock, "backward_us", "ragged", [0, 1, 2, 3]),
        "bwd_over_stock_small_n": over(stock, "backward_us", "ragged", [4, 5]),
        "bwd_over_cudnn_merge_short": over(merged, "backward_us", "equal", [0, 2]),
        "bwd_over_cudnn_merge_long": over(merged, "backward_us", "equal", [1, 3]),
    }
    small = [r for r in kernels if r["form"] == "ours" and r["shape"][3] == 16 and r["kind"] == "equal"]
    found["fwd_small_n_roofline"] = [r["forward_gbs"] / ceilings["copy GB/s"] for r in small]
    plain = {"plain padded", "plain merged"}
    for width, name, kind in ((512, "512", "equal"), (1024, "1024", "equal"), (None, "ragged", "ragged")):
        here = [r for r in rows if r["part"] == "stack" and r["kind"] == kind and width in {None, r["shape"][0]}]
        here = [r for r in here if r.get("difference", 1.0) < RIGHT]
        found[f"stack_over_compiled_{name}"] = pairs(here, plain)
    for kind, suffix in (("equal", ""), ("ragged", "_ragged")):
        here = [r for r in rows if r["part"] == "step" and r["kind"] == kind]
        found[f"step_over_compiled{suffix}"] = pairs(here, plain)
        if kind == "equal":
            found["step_over_duplicated"] = pairs(here, {"duplicated"})
    return {name: round(min(values), 3) for name, values in found.items() if values}


def pairs(rows: list[Row], others: set[str]) -> list[float]:
    """Best of the named forms over ours, a value a shape."""
    out = []
    for shape in {tuple(r["shape"]) for r in rows}:
        here = {r["form"]: r["ms"] for r in rows if tuple(r["shape"]) == shape}
        other = [ms for form, ms in here.items() if form in others]
        if other and "ours" in here:
            out.append(min(other) / here["ours"])
    return out


def main() -> None:
    """Run the parts, print a line a row, write the JSON after each part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three shapes, one stack, shorter medians")
    parser.add_argument("--parts", nargs="*", default=["kernels", "stack", "step"])
    parser.add_argument("--keep", type=Path, help="an earlier result, for the parts of which nothing is measured now")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/crossing_attention.json"))
    options = parser.parse_args()
    torch._dynamo.config.recompile_limit = 64
    earlier = json.loads(options.keep.read_text()) if options.keep else {"rows": []}
    about, ms, rows, began = machine(), 15 if options.quick else 25, [], time.monotonic()
    shapes = [SHAPES[i] for i in (0, 4, 5)] if options.quick else SHAPES
    sizes = [(w, n, kind) for w, n in STACKS[: 1 if options.quick else None] for kind in ("equal", "ragged")]
    jobs: dict[str, list[Callable[[], list[Row]]]] = {
        "kernels": [lambda s=s, kind=kind: kernel_rows(s, kind, ms) for s in shapes for kind in ("equal", "ragged")],
        "stack": [lambda s=s: stack_rows(*s, ms, about["matmul TFLOP/s"]) for s in sizes],
        "step": [lambda: [*step_rows("equal", ms), *step_rows("ragged", ms)]],
    }
    work = [job for part in options.parts for job in jobs[part]]
    for job in work:
        try:
            new = job()
        except Exception as failure:  # noqa: BLE001 - the rows of the other parts are worth keeping
            traceback.print_exc()
            new = [{"part": "failed", "failed": str(failure)[:300]}]
        rows += new
        for row in new:
            print({k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in row.items()}, flush=True)
        torch.cuda.empty_cache()
        if Health.broken:
            raise SystemExit("a kernel fell back to plain torch: nothing here would be ours")
        settings = {"quick": options.quick, "milliseconds": ms, "minutes": round((time.monotonic() - began) / 60, 1)}
        result = {"name": "crossing_attention", "machine": about, "settings": settings}
        kept = [r for r in earlier["rows"] if r["part"] not in {new["part"] for new in rows}]
        if kept:
            parts = sorted({r["part"] for r in kept})
            result["kept"] = {"parts": parts, "machine": earlier["machine"], "settings": earlier["settings"]}
        result |= {"rows": rows + kept, "ratios": ratios(rows + kept, about)}
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({key: result[key] for key in ("machine", "ratios")}, indent=1))


if __name__ == "__main__":
    main()
