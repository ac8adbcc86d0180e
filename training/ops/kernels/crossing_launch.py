# ruff: noqa: PLR0917 - attention takes the tensors that it takes
"""Launches of the crossing kernels: outputs allocated, tile chosen from the tables, grid from the plan's tile map."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import torch
import triton
from triton.tools.tensor_descriptor import TensorDescriptor

from training.ops.kernels.crossing_backward import crossing_columns_kernel, crossing_rows_kernel
from training.ops.kernels.crossing_forward import crossing_forward_kernel, merge_splits_kernel
from training.ops.kernels.hopper_launch import hopper_forward, takes_hopper
from training.ops.kernels.tiles import Tiles, choose_splits, choose_tiles
from training.ops.plan import COLUMN_BLOCKS, ROW_BLOCKS

# Above this share of the history's tiles left over, one pass for the rest is not worth its less apt tile.
ONE_PASS_SHARE = 0.8


@dataclasses.dataclass(frozen=True)
class Problem:
    """The batch's layout and host integers, as `CrossingPlan` holds them."""

    layout: list[torch.Tensor]
    sizes: list[int]
    scale: float

    @property
    def max_candidates(self) -> int:
        """Of a request."""
        return self.sizes[1]

    @property
    def max_length(self) -> int:
        """Of a history."""
        return self.sizes[2]

    def row_tiles(self, block: int) -> torch.Tensor:
        """Tile map of candidates."""
        return self.layout[2 + ROW_BLOCKS.index(block)]

    @property
    def resolved_tiles(self) -> torch.Tensor:
        """Tiles of the widest of ROW_BLOCKS with all that a program asks of the layout."""
        return self.layout[-1]

    def column_tiles(self, block: int) -> torch.Tensor:
        """Tile map of history tokens."""
        return self.layout[2 + len(ROW_BLOCKS) + COLUMN_BLOCKS.index(block)]

    def left_over(self, rows: int, block: int) -> int:
        """How many of `column_tiles(block)`, the first ones, belong to requests without just one tile of `rows`."""
        return self.sizes[3 + ROW_BLOCKS.index(rows) * len(COLUMN_BLOCKS) + COLUMN_BLOCKS.index(block)]


@dataclasses.dataclass(frozen=True)
class Paging:
    """Keys and values in pages: row n of request r is row n % page of page table[r, n // page]."""

    table: torch.Tensor
    page: int


def forward(
    q_CHD: torch.Tensor,
    self_kv: tuple[torch.Tensor, torch.Tensor],
    kv: tuple[torch.Tensor, torch.Tensor],
    problem: Problem,
    paging: Paging | None = None,
    tiles: Tiles | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """out_CHD and lse_HC; k and v are [T, G, D], or [P * page, G, D] with paging. The tuner names `tiles`."""
    q, k_self, v_self, k, v = (packed(x) for x in (q_CHD, *self_kv, *kv))
    C, H, D = q.shape
    G = k.shape[1]
    out, lse = q.new_empty(C, H, D), q.new_empty(H, C, dtype=torch.float32)
    chosen = tiles or tiles_for(q, k, problem)
    tile = chosen.forward
    if chosen.hopper and paging is None and aligned(q, k_self, v_self, k, v) and takes_hopper(C, len(k), problem.sizes):
        table, processors = problem.resolved_tiles, multiprocessors(q.device)
        if len(table) * G >= processors:
            hopper_forward((q, k_self, v_self, k, v), (out, lse), table, chosen.hopper, problem.scale, processors)
            return out, lse
    table = problem.row_tiles(tile.rows * G // H)
    programs = len(table) * G
    if not programs:
        return out, lse
    splits = choose_splits(programs, problem.max_length, multiprocessors(q.device))
    part_out, part_lse = out, lse
    if splits > 1:
        part_out, part_lse = q.new_empty(splits, C, H, D, dtype=torch.float32), lse.new_empty(splits, H, C)
    use_tma = tile.tma and paging is None and aligned(k, v)
    crossing_forward_kernel[(programs, splits)](
        q, k_self, v_self, *(describe(x, tile.columns, use_tma) for x in (k, v)), part_out, part_lse,
        *problem.layout[:2], table, paging.table if paging else None,
        *(x.stride(0) for x in (q, k_self, v_self, k, v)), paging.table.stride(0) if paging else 0,
        C, problem.scale, G=G, REP=H // G, D=D, BM=tile.rows, BN=tile.columns, SPLITS=splits,
        PAGE=paging.page if paging else 0, TMA=use_tma, PRECISION=precision(),
        num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
    if splits > 1:
        block = max(1, 2048 // D)
        merge_splits_kernel[(triton.cdiv(C * H, block),)](
            part_out, part_lse, out, lse, C * H, C, H=H, D=D, BM=block, SPLITS=splits
        )
    return out, lse


def backward(
    do_CHD: torch.Tensor,
    dlse_HC: torch.Tensor | None,
    inputs: tuple[torch.Tensor, ...],
    out_CHD: torch.Tensor,
    lse_HC: torch.Tensor,
    problem: Problem,
    tiles: Tiles | None = None,
) -> tuple[torch.Tensor, ...]:
    """Gradients of q, k_self, v_self, k, v. The tuner names `tiles`."""
    q, k_self, v_self, k, v = (packed(x) for x in inputs)
    do = do_CHD.contiguous()
    (C, H, D), (T, G, _) = q.shape, k.shape
    chosen = tiles or tiles_for(q, k, problem)
    rep, tile = H // G, chosen.column_pass
    columns = problem.column_tiles(tile.columns)
    one, left = chosen.one, len(columns)
    if one:
        left = problem.left_over(one.rows // rep, tile.columns)
        if left > ONE_PASS_SHARE * len(columns):
            one, left = None, len(columns)
    row_tile = one or chosen.row_pass
    dq, dk_self, dv_self = q.new_empty(C, H, D), q.new_empty(C, G, D), q.new_empty(C, G, D)
    dk, dv = k.new_empty(T, G, D), v.new_empty(T, G, D)
    delta = torch.empty_like(lse_HC)
    sizes: dict[str, Any] = {"G": G, "REP": rep, "D": D, "PRECISION": precision()}

    table = problem.row_tiles(row_tile.rows // rep)
    use_tma = row_tile.tma and aligned(k, v)
    if len(table):
        crossing_rows_kernel[(len(table) * G,)](
            q, k_self, v_self, *(describe(x, row_tile.columns, use_tma) for x in (k, v)), out_CHD, do, lse_HC,
            None if dlse_HC is None else dlse_HC.contiguous(), delta, dq, dk_self, dv_self, dk, dv,
            *problem.layout[:2], table, *(x.stride(0) for x in (q, k_self, v_self, k, v)), C, problem.scale,
            **sizes, BM=row_tile.rows, BN=row_tile.columns, TMA=use_tma, ONE=one is not None,
            SOME=one is not None and problem.max_candidates * rep > one.rows, HAS_DLSE=dlse_HC is not None,
            num_warps=row_tile.warps, num_stages=row_tile.stages,
        )  # fmt: skip
    if left:  # with `one`: requests of more tiles, and the zeros of requests without candidates
        use_tma = tile.tma and G == H and aligned(q, do)
        crossing_columns_kernel[(left * G,)](
            describe(q, tile.rows, use_tma), k, v, describe(do, tile.rows, use_tma), lse_HC, delta, dk, dv,
            *problem.layout[:2], columns, *(x.stride(0) for x in (q, k, v, do)), C, problem.scale,
            **sizes, BM=tile.rows, BN=tile.columns, TMA=use_tma, num_warps=tile.warps, num_stages=tile.stages,
        )  # fmt: skip
    return dq, dk_self, dv_self, dk, dv


def tiles_for(q: torch.Tensor, k: torch.Tensor, problem: Problem) -> Tiles:
    """The table's entry for these tensors on their device."""
    rep = q.shape[1] // k.shape[1]
    rows = problem.max_candidates * rep
    return choose_tiles(capability(q.device), q.shape[2], q.element_size(), rows, rep, problem.max_length)


def packed(x: torch.Tensor) -> torch.Tensor:
    """Rows of any stride (a slice of a fused projection), heads and widths dense within a row."""
    return x if x.stride(2) == 1 and x.stride(1) == x.shape[2] else x.contiguous()


def aligned(*tensors: torch.Tensor) -> bool:
    """Whether the bulk copy engine can address these rows: 16-byte base and row stride, something to read."""
    return all(x.data_ptr() % 16 == 0 and x.stride(0) * x.element_size() % 16 == 0 and len(x) for x in tensors)


def describe(x: torch.Tensor, block: int, use_tma: bool) -> torch.Tensor | TensorDescriptor:
    """The tensor, or its descriptor as rows of all heads, one head of `block` rows a load."""
    rows, heads, D = x.shape
    return TensorDescriptor(x, [rows, heads * D], [x.stride(0), 1], [block, D]) if use_tma else x


def precision() -> str:
    """fp32 products as torch's own setting says."""
    return "ieee" if torch.get_float32_matmul_precision() == "highest" else "tf32"


@functools.cache
def capability(device: torch.device) -> int:
    """Compute capability, 90 for sm90; 0 where there is no card (the interpreter)."""
    if device.type != "cuda":
        return 0
    major, minor = torch.cuda.get_device_capability(device)
    return major * 10 + minor


@functools.cache
def multiprocessors(device: torch.device) -> int:
    """Multiprocessors of the card; 4 under the interpreter, so that small tests split too."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 4
