"""Copies of a batch's tensors in a handful of calls: one packed buffer for each dtype, cut into views again."""

from __future__ import annotations

from typing import Any

from feature_reader.arrays import Array


def packed(tensors: list[Array], *, pin: bool = False) -> list[Array]:
    """The tensors as views of one buffer a dtype, page-locked if `pin`. Tensors of one dtype end up in one storage."""
    return _by_dtype(tensors, lambda flat: flat, pin=pin)


def moved(tensors: list[Array], device: Any, *, non_blocking: bool) -> list[Array]:
    """The tensors on a device, by one copy a dtype; from page-locked memory where the copy must not block."""
    import torch

    to_cuda = torch.device(device).type == "cuda"
    return _by_dtype(tensors, lambda flat: flat.to(device, non_blocking=non_blocking), pin=non_blocking and to_cuda)


def _by_dtype(tensors: list[Array], copy: Any, *, pin: bool) -> list[Array]:
    import torch

    groups: dict[Any, list[int]] = {}
    for i, tensor in enumerate(tensors):
        groups.setdefault(tensor.dtype, []).append(i)
    result: list[Array] = list(tensors)
    for dtype, members in groups.items():
        sizes = [tensors[i].numel() for i in members]
        flat = torch.empty(sum(sizes), dtype=dtype, device=tensors[members[0]].device, pin_memory=pin)
        torch.cat([tensors[i].reshape(-1) for i in members], out=flat)
        for i, part in zip(members, copy(flat).split(sizes), strict=True):
            result[i] = part.view(tensors[i].shape)
    return result
