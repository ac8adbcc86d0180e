# ruff: noqa: PLR0917 - attention takes the tensors that it takes
"""When the forward for sm90 runs, and its launch. Gluon is an experimental part of Triton, hence the versions."""

from __future__ import annotations

import functools
from types import ModuleType

import torch
import triton

from training.ops.kernels.tiles import Tile
from training.ops.plan import ROW_BLOCKS

LOG2E = 1.4426950408889634
# Below this share of rows in use, in histories or candidates, the smaller tiles of Triton's kernel waste less: on
# log-uniform lengths (a third in use) this kernel took 0.94 to 1.16 times as long.
FULL = 0.9
# Compiled with both, run with the first.
VERSIONS = ((3, 6), (3, 9))


def takes_hopper(C: int, T: int, sizes: list[int]) -> bool:
    """Whether a batch is full enough, and the Triton that is installed brings Gluon as this kernel speaks it."""
    requests, max_candidates, max_length = sizes[:3]
    full = min(C - FULL * requests * max_candidates, T - FULL * requests * max_length) >= 0
    return full and gluon_kernel() is not None


@functools.cache
def gluon_kernel() -> ModuleType | None:
    """The kernel's module, or None where this Triton's Gluon is not one that it is known to compile with."""
    version = tuple(int(x) for x in triton.__version__.split(".")[:2])
    if not VERSIONS[0] <= version <= VERSIONS[1]:
        return None
    try:
        from training.ops.kernels import crossing_hopper
    except (ImportError, AttributeError):
        return None
    return crossing_hopper


def hopper_forward(
    tensors: tuple[torch.Tensor, ...],
    outputs: tuple[torch.Tensor, torch.Tensor],
    table: torch.Tensor,
    tile: Tile,
    scale: float,
    multiprocessors: int,
) -> None:
    """Fills out [C, H, D] and lse [H, C] from q, k_self, v_self, k, v; as many programs as multiprocessors.

    `table` is a plan's `resolved`, of tiles as tall as this one.
    """
    assert tile.rows == ROW_BLOCKS[-1]
    module = gluon_kernel()
    assert module is not None
    q, k_self, v_self, k, v = tensors
    C, G, D = q.shape
    work, groups = len(table) * G, 2
    rows = tile.rows // groups
    module.crossing_hopper_kernel[(min(work, multiprocessors),)](
        *(module.describe(x, rows) for x in (q, k_self, v_self)), *(module.describe(x, tile.columns) for x in (k, v)),
        module.describe(outputs[0], rows), *outputs, table, work, C, scale * LOG2E, G=G, D=D, BM=rows,
        BN=tile.columns, W=groups, S=tile.stages, **rings(D), REGISTERS=240, num_warps=4,
    )  # fmt: skip


def rings(D: int) -> dict[str, int | bool]:
    """What the shared memory has room for at D = 64: the next tile's rows, and a way out for the output."""
    return {"A": 2 if D == 64 else 1, "STORES": D == 64}
