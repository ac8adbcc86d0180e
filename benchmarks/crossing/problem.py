"""Problems of the kernel benchmarks, their fp64 answer, and the clock. Random data: zeros run faster than data."""

from __future__ import annotations

import dataclasses
import functools
import math
import statistics
import subprocess
from collections.abc import Callable
from typing import Any

import torch

from training.ops import CrossingPlan, padded

# H, D, R, N, L: the six shapes of the design
SHAPES = [
    (8, 64, 16, 512, 1024),
    (8, 64, 16, 1024, 4096),
    (8, 128, 16, 512, 1024),
    (8, 128, 16, 1024, 4096),
    (8, 64, 64, 128, 512),
    (8, 64, 256, 16, 512),
]


def log_uniform(mean: int, n: int, seed: int) -> list[int]:
    """n lengths, log-uniform over a factor of 16, rescaled to the mean."""
    g = torch.Generator().manual_seed(seed)
    x = torch.exp(torch.rand(n, generator=g) * math.log(16))
    return [int(i) for i in (x * (mean / x.mean())).round().clamp(min=1).tolist()]


@dataclasses.dataclass(frozen=True)
class Problem:
    """One batch of crossing attention in bf16 on the card."""

    H: int
    D: int
    counts: list[int]
    lengths: list[int]

    @classmethod
    def of(cls, shape: tuple[int, int, int, int, int], kind: str) -> Problem:
        """A shape's equal-length batch, or its ragged one of the same means (candidates stay equal at N <= 32)."""
        H, D, R, N, L = shape
        if kind == "equal":
            return cls(H, D, [N] * R, [L] * R)
        return cls(H, D, log_uniform(N, R, 1) if N > 32 else [N] * R, log_uniform(L, R, 2))

    @functools.cached_property
    def plan(self) -> CrossingPlan:
        """The batch's plan on the card."""
        return CrossingPlan.build(*(torch.tensor([0, *x]).cumsum(0) for x in (self.lengths, self.counts)), "cuda")

    @functools.cached_property
    def tensors(self) -> list[torch.Tensor]:
        """q, k_self, v_self, k, v and the output's gradient."""
        torch.manual_seed(0)
        C, T = sum(self.counts), sum(self.lengths)
        return [torch.randn(n, self.H, self.D, device="cuda").bfloat16() for n in (C, C, C, T, T, C)]

    @property
    def flop(self) -> int:
        """Products of the forward over the history; the backward's are 2.5 times as many."""
        return 4 * sum(n * m for n, m in zip(self.counts, self.lengths, strict=True)) * self.H * self.D

    @property
    def bytes_forward(self) -> int:
        """Least traffic of the forward: each input read once, the output and the log-sum-exp written once."""
        C, T = sum(self.counts), sum(self.lengths)
        return 2 * self.H * self.D * (4 * C + 2 * T) + 4 * self.H * C

    @functools.cached_property
    def answer(self) -> list[torch.Tensor]:
        """Output and the five gradients in fp64 (the padded form, itself held to the oracle by the tests)."""
        *inputs, grad = (x.double() for x in self.tensors)
        xs = [x.requires_grad_() for x in inputs]
        out = padded.crossing_attention(*xs, self.plan, self.D**-0.5)
        return [out.detach(), *torch.autograd.grad(out, xs, grad)]


def error(x: torch.Tensor, reference: torch.Tensor) -> float:
    """||x - reference|| / ||reference||."""
    return float((x.detach().double() - reference).norm() / reference.norm())


@functools.cache
def flush() -> Callable[[], Any]:
    """Empties the L2 by reading: a buffer that is written would leave it dirty, for the timed call to write back."""
    buffer, total = torch.ones(1 << 27, device="cuda"), torch.empty((), device="cuda")
    return lambda: torch.sum(buffer, dim=0, out=total)


def median_ms(call: Callable[[], Any], milliseconds: int) -> float:
    """Median of the device's time for a call, of at least five and about `milliseconds` worth, each on a cold L2."""
    empty, times = flush(), []
    for _ in range(3):
        call()
    while len(times) < 5 or (sum(times) < milliseconds and len(times) < 1000):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        empty()
        start.record()
        call()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times)


def clock(fn: Callable[[], Any], milliseconds: int = 40) -> float:
    """Median ms of a call, replayed from a CUDA graph, L2 flushed before each."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        fn(), fn()
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        fn()
    return median_ms(captured.replay, milliseconds)


def machine() -> dict[str, Any]:
    """The card, its clocks, the software, and both ceilings measured here."""
    import triton

    a, b = (torch.randn(8192, 8192, device="cuda").bfloat16() for _ in range(2))
    x = torch.randn(1 << 30, device="cuda")
    y = torch.empty_like(x)
    matmul, c = clock(lambda: a @ b), a @ b
    for _ in range(900):  # keeps the card busy while its clocks are read
        torch.mm(a, b, out=c)
    query = "name,driver_version,clocks.sm,clocks.mem,clocks.max.sm,clocks.max.mem"
    seen = subprocess.run(
        ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"], capture_output=True, text=True, check=False
    )
    torch.cuda.synchronize()
    return {
        "card": torch.cuda.get_device_name(),
        "driver, clocks in use and highest": seen.stdout.strip(),
        "torch": torch.__version__,
        "triton": triton.__version__,
        "cudnn": torch.backends.cudnn.version(),
        "matmul TFLOP/s": round(2 * 8192**3 / matmul / 1e9),
        # by a kernel: a copy node of a graph goes through the copy engine, at two thirds of the rate
        "copy GB/s": round(2 * x.numel() * 4 / clock(lambda: torch.mul(x, 1.0, out=y)) / 1e6),
    }
