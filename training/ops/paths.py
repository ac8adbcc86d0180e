"""Which path an operation takes: `REQLAKE_KERNELS=reference|triton|auto` (the default), read at each call."""

import importlib.util
import os

import torch

PATHS = ("reference", "padded", "triton")


def choose(x: torch.Tensor) -> str:
    """The path for a tensor: auto means Triton's kernels on CUDA devices, padded blocks elsewhere."""
    setting = os.environ.get("REQLAKE_KERNELS", "auto")
    if setting in ("reference", "triton"):
        return setting
    if setting != "auto":
        raise ValueError(f"REQLAKE_KERNELS={setting!r}: choose reference, triton or auto")
    return "triton" if x.is_cuda and importlib.util.find_spec("triton") else "padded"
