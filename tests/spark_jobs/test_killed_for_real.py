"""kill -9 of a whole process while it merges a late batch; the next run ends in the table of an undisturbed one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lakehouse.settings import Settings
from spark_jobs import ingest
from tests.spark_jobs.conftest import published, rows_of
from tests.support.datasets import SPECS, raw_log, reference_requests

pytestmark = [pytest.mark.spark, pytest.mark.slow]
ROOT = Path(__file__).parents[2]
SPEC = SPECS["feed"]
DIES = """
import os, signal, sys
from pathlib import Path
from spark_jobs import ingest
from spark_jobs.session import build_session
from tests.spark_jobs.conftest import embedded
from tests.support.datasets import SPECS

step, folder, raw = sys.argv[1:]
settings = embedded(Path(folder))

def dies(says):
    if says.startswith(step):
        os.kill(os.getpid(), signal.SIGKILL)

ingest.run(build_session(settings), settings, SPECS["feed"], [raw], progress=dies)
"""


STEPS = [
    pytest.param("Validating", id="before publishing", marks=pytest.mark.exhaustive),
    pytest.param("Entering the batch", id="after publishing"),
]


@pytest.mark.parametrize("step", STEPS)
def test_a_killed_merge_is_made_good_by_the_next_run(
    step: str, spark: Any, settings: Settings, write: Any, tmp_path: Path
) -> None:
    raw = raw_log(SPEC, users=3)
    ingest.run(spark, settings, SPEC, [write(raw.slice(2), "first")])
    late = write(raw.slice(0, 2), "late")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", DIES, step, str(tmp_path), late]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
    again = ingest.run(spark, settings, SPEC, [late])
    assert again.skipped == (step == "Entering the batch")
    assert rows_of(published(settings, SPEC)) == rows_of(reference_requests(raw, SPEC))
    assert len(published(settings, SPEC, "ledger")) == 4  # two files a batch
