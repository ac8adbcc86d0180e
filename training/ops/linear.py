"""A linear layer and its GELU as one product with an epilogue (cuBLASLt), where nobody asks for gradients.

Inductor leaves GELU beside a product a pass of its own over the widest tensor of a layer. In a whole stack's forward
(width 512, 4 layers, bf16, H200) the epilogue saves an eighth of the time: docs/kernels.md.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F


def linear_gelu(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """GELU (its tanh form) of x W' + b: x [..., I], weight [O, I], bias [O] to [..., O]; differentiable."""
    wanted = torch.is_grad_enabled() and any(t.requires_grad for t in (x, weight, bias))
    if wanted or not x.is_cuda or x.dtype not in {torch.bfloat16, torch.float16}:
        return F.gelu(F.linear(x, weight, bias), approximate="tanh")
    out: torch.Tensor = fused_linear_gelu(x.flatten(0, -2), weight, bias)
    return out.view(*x.shape[:-1], -1)


@torch.library.custom_op("reqlake::linear_gelu", mutates_args=())
def fused_linear_gelu(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """[N, I] to [N, O]; an operator, since Inductor takes torch's own apart again."""
    return torch._addmm_activation(bias, x, weight.t(), use_gelu=True)  # noqa: SLF001 - torch has no other name for it


@fused_linear_gelu.register_fake
def _(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    del bias
    return x.new_empty(x.shape[0], weight.shape[0])
