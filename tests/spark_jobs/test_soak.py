"""A short soak: real kills at random moments, and a lake that equals the plain model. The long one is `make soak`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.spark, pytest.mark.exhaustive, pytest.mark.timeout(580)]
ROOT = Path(__file__).parents[2]


def test_a_short_soak_finds_nothing(tmp_path: Path) -> None:
    out = tmp_path / "soak.json"
    command = [sys.executable, "-m", "benchmarks.soak", "--quick", "--minutes", "3", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    told = json.loads(out.read_text())["ratios"]
    assert (told["mismatches"], told["failures"]) == (0, 0)
    assert told["kills"] > 0
