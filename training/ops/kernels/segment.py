# ruff: noqa: ANN001, ANN201, D103, PLR0917 - Triton's language, not Python: arguments have no types here
# mypy: disable-error-code="no-untyped-def, untyped-decorator"
"""Sum of each request's candidate rows, one program a (request, span of columns): no atomics, fp32 inside.

The plain form is `index_add`, whose atomics on the GPU give other bits in every run.
"""

import torch
import triton
import triton.language as tl


@triton.jit
def segment_sum_kernel(x, out, starts, width, BN: tl.constexpr, BD: tl.constexpr):
    i_r, i_d = tl.program_id(0), tl.program_id(1)
    c0, c1 = tl.load(starts + i_r), tl.load(starts + i_r + 1)
    o_d = i_d * BD + tl.arange(0, BD)
    m_d = (o_d < width)[None, :]
    b_sum = tl.zeros([BD], tl.float32)
    for c in range(c0, c1, BN):
        o_c = c + tl.arange(0, BN)
        p_x = o_c.to(tl.int64)[:, None] * width + o_d[None, :]
        b_sum += tl.sum(tl.load(x + p_x, mask=(o_c < c1)[:, None] & m_d, other=0.0).to(tl.float32), 0)
    tl.store(out + i_r.to(tl.int64) * width + o_d, b_sum.to(out.dtype.element_ty), mask=o_d < width)


def segment_sum(x_C: torch.Tensor, candidate_starts: torch.Tensor) -> torch.Tensor:
    """[C, W] to [R, W]."""
    x = x_C.contiguous()
    R, width = len(candidate_starts) - 1, x.shape[1]
    out = x.new_empty(R, width)
    if R and width:
        block = min(256, triton.next_power_of_2(width))
        segment_sum_kernel[(R, triton.cdiv(width, block))](x, out, candidate_starts, width, BN=16, BD=block)
    return out
