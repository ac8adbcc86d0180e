"""Every shipped tile: its tile map exists, and it compiles for cards we do not have within their shared memory.

What this cannot show: that a tile runs, or fast. `test_gpu.py` and the benchmark show it where there is a card.
"""

import itertools

import pytest

from training.ops.kernels.tiles import choose_splits, choose_tiles
from training.ops.plan import COLUMN_BLOCKS, ROW_BLOCKS

WIDTHS = (16, 32, 64, 128, 256)
ROWS = (1, 16, 17, 32, 64, 100, 128, 129, 4096)
CAPABILITIES = (80, 86, 89, 90, 100, 120)
KERNELS = ("forward", "one", "row_pass", "column_pass")

pytest.importorskip("triton", reason="kernels need triton")


def entries(capability):
    for D, itemsize, rows, rep in itertools.product(WIDTHS, (2, 4), ROWS, (1, 2, 4, 8)):
        if rows % rep == 0:
            yield D, itemsize, rows, rep, choose_tiles(capability, D, itemsize, rows, rep, 4096)


@pytest.mark.parametrize("capability", [0, *CAPABILITIES])
def test_a_plan_has_the_tile_map_of_every_entry(capability):
    for *_, rep, tiles in entries(capability):
        heights = [t.rows for t in (tiles.forward, tiles.row_pass, tiles.one) if t]
        assert all(h // rep in ROW_BLOCKS for h in heights)
        assert tiles.column_pass.columns in COLUMN_BLOCKS
        assert tiles.column_pass.rows >= 16


def test_the_kernel_for_sm90_is_for_many_rows_without_shared_heads():
    assert choose_tiles(90, 64, 2, 129, 1, 512).hopper is not None
    assert choose_tiles(90, 128, 2, 4096, 1, 512).hopper is not None
    for other in [
        (90, 64, 2, 128, 1),
        (90, 64, 2, 256, 2),
        (90, 64, 4, 256, 1),
        (90, 32, 2, 256, 1),
        (100, 64, 2, 256, 1),
    ]:
        assert choose_tiles(*other, 512).hopper is None


def test_descriptors_are_for_sm90_alone():
    for capability in CAPABILITIES:
        for *_, tiles in entries(capability):
            used = [t.tma for t in vars(tiles).values() if t]
            assert capability == 90 or not any(used)


@pytest.mark.parametrize(
    ("programs", "longest", "splits"),
    [(0, 4096, 1), (264, 4096, 1), (132, 4096, 2), (8, 4096, 16), (8, 600, 2), (8, 100, 1), (1, 0, 1)],
)
def test_small_batches_split_their_histories(programs, longest, splits):
    assert choose_splits(programs, longest, 132) == splits


def shipped(capability, D, itemsize):
    """(kernel, tile) pairs of one card, width and dtype, each once."""
    tiles = [choose_tiles(capability, D, itemsize, rows, 1, length) for rows in ROWS for length in (64, 4096)]
    pairs = {(kernel, getattr(t, kernel)) for t in tiles for kernel in KERNELS}
    return sorted(((k, t) for k, t in pairs if t), key=str)


def check_tile(capability, D, itemsize, kernel, tile):
    from ahead_of_time import SHARED, shared_memory

    used = shared_memory(capability, kernel, tile, D, "bf16" if itemsize == 2 else "fp32")
    assert 0 < used <= SHARED[capability], f"sm{capability} D{D} {kernel} {tile}: {used} bytes"


@pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION")
@pytest.mark.parametrize(("capability", "D", "itemsize", "kernel"), [(90, 128, 2, "forward"), (120, 64, 4, "one")])
def test_the_largest_tiles_fit(capability, D, itemsize, kernel):
    largest = [t for k, t in shipped(capability, D, itemsize) if k == kernel]
    check_tile(capability, D, itemsize, kernel, max(largest, key=lambda t: t.rows * t.columns * t.stages))


@pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION")
@pytest.mark.parametrize("D", [64, 128])
def test_the_kernel_for_sm90_compiles_and_fits(D):
    from ahead_of_time import SHARED, hopper_shared_memory

    assert 0 < hopper_shared_memory(choose_tiles(90, D, 2, 512, 1, 512).hopper, D) <= SHARED[90]


@pytest.mark.parametrize(
    ("C", "T", "taken"), [(800, 4000, True), (720, 3600, True), (719, 4000, False), (800, 3599, False)]
)
def test_the_kernel_for_sm90_is_for_full_batches(C, T, taken):
    from training.ops.kernels.hopper_launch import takes_hopper

    assert takes_hopper(C, T, [4, 200, 1000]) == taken


def test_another_tritons_gluon_is_left_alone(monkeypatch):
    from training.ops.kernels import hopper_launch

    hopper_launch.gluon_kernel.cache_clear()
    monkeypatch.setattr(hopper_launch.triton, "__version__", "4.0.0")
    assert hopper_launch.gluon_kernel() is None
    hopper_launch.gluon_kernel.cache_clear()


@pytest.mark.exhaustive
@pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION")
@pytest.mark.parametrize("itemsize", [2, 4])
@pytest.mark.parametrize("D", WIDTHS)
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_every_shipped_tile_compiles_and_fits(capability, D, itemsize):
    for kernel, tile in shipped(capability, D, itemsize):
        check_tile(capability, D, itemsize, kernel, tile)
