"""Two processes learn what one learns: the same global batches, the same updates."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lakehouse.settings import Settings, load_settings
from tests.support.datasets import SPECS, raw_log, reference_requests, write_request_table
from tests.training.batches import STILL
from training.checkpoint import latest_checkpoint
from training.config import TrainConfig
from training.loop import train

ROOT = Path(__file__).parents[2]


def run(home: Path, folder: Path) -> None:
    """Two epochs that forget nothing."""
    config = TrainConfig(table="reqlake.video_requests", run=folder, epochs=2, batch_requests=10, clip=1e9, model=STILL)
    train(config, load_settings(home=home))


@pytest.mark.slow
def test_two_ranks_equal_one(settings: Settings, tmp_path: Path) -> None:
    """Fan-out is ragged, so ranks hold unequal numbers of candidates, and some labels are unknown."""
    spec = SPECS["video"]
    write_request_table(settings, spec, reference_requests(raw_log(spec, users=12), spec), row_group=8)
    run(settings.home, tmp_path / "one")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=0", "--standalone"]
    done = subprocess.run(
        [*command, __file__, str(settings.home), str(tmp_path / "two")],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    one, two = (latest_checkpoint(tmp_path / name) for name in ("one", "two"))
    assert one is not None
    assert two is not None
    assert one.name == two.name
    a, b = load_file(one / "model.safetensors"), load_file(two / "model.safetensors")
    for name, value in a.items():
        # A bias of the keys shifts all scores of a query alike: its gradient is rounding, which Adam makes a step of.
        rows = torch.ones(len(value), dtype=torch.bool)
        if name.endswith("qkv.bias"):
            rows[STILL.width : 2 * STILL.width] = False
        if value.numel():
            error = (value - b[name])[rows].norm() / value[rows].norm().clamp(min=1e-6)
            assert float(error) < 1e-4, name


if __name__ == "__main__":
    torch.set_num_threads(1)
    run(Path(sys.argv[1]), Path(sys.argv[2]))
