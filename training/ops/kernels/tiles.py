# ruff: noqa: PLR0917
"""Which tile a kernel runs with, by card, head width, dtype and rows of a request: tables, never autotuning.

`python -m benchmarks.tune_crossing` measures the entries; `docs/kernels.md` says on which card.
Rows are (candidate, query head) pairs that share a key-value head: candidates x REP.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Tile:
    """One kernel configuration."""

    rows: int
    columns: int
    warps: int
    stages: int
    tma: bool = False
    """Loads through tensor descriptors (the bulk copy engine, sm90 and later)."""


@dataclasses.dataclass(frozen=True)
class Tiles:
    """The tiles of one problem class. `one` is the backward's for requests that fit it, None for two passes always."""

    forward: Tile
    one: Tile | None
    row_pass: Tile
    column_pass: Tile
    hopper: Tile | None = None
    """The forward's for full batches (`crossing_hopper`); rows are those of both groups of warps."""


HEAD_BLOCKS = (16, 32, 64, 128, 256)


def choose_tiles(capability: int, D: int, itemsize: int, rows: int, rep: int, max_length: int) -> Tiles:
    """The tiles for `rows` = most candidates of a request x rep, on a card of compute capability such as 90."""
    table = sm90 if capability == 90 and itemsize == 2 and D in {64, 128} else safe
    tiles = table(D, itemsize, rows, max_length)
    return Tiles(
        fit_rep(tiles.forward, rep),
        tiles.one and fit_rep(tiles.one, rep),
        fit_rep(tiles.row_pass, rep),
        fit_rep(tiles.column_pass, rep),
        tiles.hopper if rep == 1 else None,
    )


def fit_rep(tile: Tile, rep: int) -> Tile:
    """Whole candidates in a tile: at least 8 of them with all their heads, the smallest tile map of a plan."""
    return dataclasses.replace(tile, rows=max(tile.rows, 8 * rep)) if rep > 1 else tile


def sm90(D: int, itemsize: int, rows: int, max_length: int) -> Tiles:
    """Measured on an H200 with bf16 (H = 8), `benchmarks/results/tune_crossing.json`."""
    del itemsize
    return sm90_wide(rows) if D == 128 else sm90_narrow(rows, max_length)


HOPPER_WIDE, HOPPER_NARROW = Tile(128, 128, 8, 2, tma=True), Tile(128, 128, 8, 3, tma=True)


def sm90_narrow(rows: int, max_length: int) -> Tiles:
    """Head width 64."""
    row_pass, column_pass = Tile(64, 64, 4, 3, tma=True), Tile(32, 64, 4, 3, tma=True)
    if rows <= 16:
        return Tiles(Tile(16, 64, 1, 2), Tile(16, 32, 2, 3), row_pass, column_pass)
    if rows <= 32:
        return Tiles(Tile(32, 64, 1, 3, tma=True), Tile(32, 32, 2, 3), row_pass, column_pass)
    if rows <= 64:
        return Tiles(Tile(64, 64, 4, 3), Tile(64, 32, 4, 3), row_pass, column_pass)
    one = Tile(128, 64, 8, 3, tma=True) if rows <= 128 else Tile(64, 32, 4, 3)
    forward = Tile(64, 64, 4, 3) if max_length < 4096 else Tile(128, 64, 8, 4, tma=True)
    return Tiles(forward, one, row_pass, column_pass, HOPPER_NARROW if rows > 128 else None)


def sm90_wide(rows: int) -> Tiles:
    """Head width 128."""
    row_pass, column_pass = Tile(128, 64, 8, 3, tma=True), Tile(64, 64, 4, 2, tma=True)
    if rows <= 32:
        height = 16 if rows <= 16 else 32
        return Tiles(Tile(height, 64, 2, 2, tma=True), Tile(height, 32, 4, 3, tma=True), row_pass, column_pass)
    one = Tile(64, 32, 4, 3, tma=True) if rows <= 64 else Tile(128, 64, 8, 3)
    return Tiles(Tile(64, 64, 4, 3, tma=True), one, row_pass, column_pass, HOPPER_WIDE if rows > 128 else None)


def safe(D: int, itemsize: int, rows: int, max_length: int) -> Tiles:
    """Small enough for the 99 KiB of shared memory that sm86, sm89 and sm120 give a program; not measured."""
    del max_length
    wide = D * itemsize > 256
    most = 16 if D * itemsize > 512 else 32 if wide else 64
    height = max(16, min(most, 1 << max(0, rows - 1).bit_length()))
    columns = 16 if D * itemsize > 512 else 32
    warps = 2 if height == 16 else 4
    forward = Tile(height, columns, warps, 2)
    # fp32 of width 64 with two stages asks for 104 KiB
    one = Tile(height, columns, warps, 1 if D * itemsize > 128 else 2)
    return Tiles(forward, one, dataclasses.replace(forward, stages=1 if wide else 2), one)


def choose_splits(programs: int, max_length: int, multiprocessors: int) -> int:
    """Parts to cut each history into when a batch is too small for two waves; no part under 256 tokens."""
    if programs == 0 or programs >= 2 * multiprocessors:
        return 1
    wanted = -(-2 * multiprocessors // programs)
    return max(1, min(wanted, max_length // 256, 16))
