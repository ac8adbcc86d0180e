"""The few array operations that numpy and torch spell differently, so that a batch is one class for both.

torch is looked up, never imported: an array can only be a tensor where torch is loaded already.
"""

from __future__ import annotations

import math
import sys
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

Array: TypeAlias = Any
"""A numpy array or a torch tensor."""


def is_tensor(array: Array) -> bool:
    """Whether this is a torch tensor."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(array, torch.Tensor)


def arange(stop: int, like: Array) -> Array:
    """`0 … stop-1` as int64, where `like` lies."""
    if is_tensor(like):
        return sys.modules["torch"].arange(stop, device=like.device)
    return np.arange(stop, dtype=np.int64)


def repeat(array: Array, times: Array, total: int) -> Array:
    """Entry i repeated `times[i]` times; `total` is the sum of times (spares a GPU its synchronisation)."""
    if is_tensor(array):
        return array.repeat_interleave(times, dim=0, output_size=total)
    return np.repeat(array, times, axis=0)


def concat(arrays: list[Array]) -> Array:
    """The arrays one after the other along the first axis."""
    if len(arrays) == 1:
        return arrays[0]
    if is_tensor(arrays[0]):
        return sys.modules["torch"].cat(arrays)
    return np.concatenate(arrays, out=empty((sum(map(len, arrays)), *arrays[0].shape[1:]), arrays[0].dtype))


def copied(array: np.ndarray) -> np.ndarray:
    """A copy of the array."""
    copy = empty(array.shape, array.dtype)
    copy[...] = array
    return copy


def empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    """An array to be written, in Arrow's memory: it keeps freed pages, and fresh ones cost three times the writing."""
    size = dtype.itemsize * math.prod(shape)
    return np.frombuffer(pa.allocate_buffer(size), dtype).reshape(shape) if size else np.empty(shape, dtype)


def offsets_of(lengths: Array) -> Array:
    """Offsets [n+1] (int64, the first is 0) of rows with these lengths [n]."""
    if is_tensor(lengths):
        torch = sys.modules["torch"]
        return torch.nn.functional.pad(lengths.cumsum(0, dtype=torch.int64), (1, 0))
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def tensor_of(array: np.ndarray) -> Array:
    """The array as a CPU tensor: without a copy where it may be written to, else a copy."""
    import torch

    whole = array if array.flags.c_contiguous else np.ascontiguousarray(array)
    return torch.from_numpy(whole if whole.flags.writeable else whole.copy())
