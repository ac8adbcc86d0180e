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


def entries(capability):
    for D, itemsize, rows, rep in itertools.product(WIDTHS, (2, 4), ROWS, (1, 2, 4, 8)):
        if rows % rep == 0:
            yield D, itemsize, rows, rep, choose_tiles(capability, D, itemsize, rows, rep, 4096)


@pytest.mark.parametrize("capability", [0, *CAPABILITIES])
def test_a_plan_has_the_tile_map_of_every_entry(capability):
    for *_, rows, rep, tiles in entries(capability):
        heights = [t.rows for t in (tiles.forward, tiles.row_pass, tiles.one) if t]
        assert all(h // rep in ROW_BLOCKS for h in heights)
        assert tiles.column_pass.columns in COLUMN_BLOCKS
        assert tiles.column_pass.rows >= 16
        if tiles.one:
            assert rows <= tiles.one.rows


def test_one_tile_backward_is_for_requests_that_fit():
    assert choose_tiles(90, 64, 2, 128, 1, 512).one is not None
    assert choose_tiles(90, 64, 2, 129, 1, 512).one is None


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
