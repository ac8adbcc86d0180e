"""kill -9 of a whole process while it merges or rebuckets; the next run ends in the table of an undisturbed one.

At chosen steps here; at random moments, many times and side by side in `make soak` (benchmarks/soak).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lakehouse.catalog import open_catalog
from lakehouse.schema import open_request_table, table_spec
from lakehouse.settings import Settings
from lakehouse.spec import Partition
from lakehouse.upkeep.files import bare, referenced
from spark_jobs import ingest, orphans, rebucket
from tests.spark_jobs.conftest import published, rows_of
from tests.spark_jobs.test_expire import lying, nothing_kept
from tests.spark_jobs.test_rebucket import loaded, states
from tests.support.datasets import SPECS, raw_log, reference_requests

pytestmark = [pytest.mark.spark, pytest.mark.slow]
ROOT = Path(__file__).parents[2]
SPEC = SPECS["feed"]
DIES = """
import os, signal, sys
from pathlib import Path
from lakehouse.spec import Partition
from spark_jobs import ingest, rebucket
from spark_jobs.session import build_session
from tests.spark_jobs.conftest import embedded
from tests.support.datasets import SPECS

step, folder, given = sys.argv[1:]
settings = embedded(Path(folder))

def dies(says):
    if says.startswith(step):
        os.kill(os.getpid(), signal.SIGKILL)

if given.isdigit():
    layout = Partition(grain="day", buckets=int(given))
    rebucket.run(build_session(settings), settings, SPECS["feed"], layout, progress=dies)
else:
    ingest.run(build_session(settings), settings, SPECS["feed"], [given], progress=dies)
"""


def killed_at(step: str, folder: Path, given: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", DIES, step, str(folder), given]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr


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
    killed_at(step, tmp_path, late)
    again = ingest.run(spark, settings, SPEC, [late])
    assert again.skipped == (step == "Entering the batch")
    assert rows_of(published(settings, SPEC)) == rows_of(reference_requests(raw, SPEC))
    assert len(published(settings, SPEC, "ledger")) == 4  # two files a batch


@pytest.mark.exhaustive
@pytest.mark.parametrize("step", ["Writing", "Reading back main", "Swapping"])
def test_a_killed_rebucket_goes_on_where_it_was(step: str, spark: Any, settings: Settings, tmp_path: Path) -> None:
    """The lease and the half-built table that it leaves do not hinder the next one."""
    loaded(settings, "feed")
    rows, layout = states(settings, SPEC), Partition(grain="day", buckets=3)
    killed_at(step, tmp_path, "3")
    assert states(settings, SPEC) == rows
    report = rebucket.run(spark, settings, SPEC, layout)
    assert report.written == 0 if step == "Swapping" else report.written > 0
    assert states(settings, SPEC) == rows
    rebucket.drop_kept(settings, SPEC)
    orphans.run(nothing_kept(settings), SPEC)
    table = open_request_table(open_catalog(settings), SPEC, settings)
    assert table_spec(table).partition == layout
    assert {bare(p) for p in lying(table)} == referenced(table)
