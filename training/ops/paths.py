"""Which path an operation takes: `REQLAKE_KERNELS=reference|triton|auto` (the default), read at each call."""

import importlib.util
import os

import torch

# Looked up, not imported, and once: torch.compile cannot trace the look-up.
HAS_TRITON = importlib.util.find_spec("triton") is not None
# Everything wider (fp64) has no matrix instructions worth a kernel.
KERNEL_TYPES = (torch.bfloat16, torch.float16, torch.float32)


def choose(x: torch.Tensor) -> str:
    """The path of an operation on x: reference, padded or triton.

    auto means Triton's kernels on CUDA devices and padded blocks elsewhere.
    """
    setting = os.environ.get("REQLAKE_KERNELS", "auto")
    if setting not in {"reference", "triton", "auto"}:
        raise ValueError(f"REQLAKE_KERNELS={setting!r}: choose reference, triton or auto")
    if setting == "triton" and not (x.is_cuda or os.environ.get("TRITON_INTERPRET") == "1"):
        raise ValueError("REQLAKE_KERNELS=triton needs a CUDA device, or TRITON_INTERPRET=1 for a slow trial")
    if setting == "auto":
        kernels = x.is_cuda and x.dtype in KERNEL_TYPES and HAS_TRITON
        return "triton" if kernels else "padded"
    return setting
