"""A small lake on the stack for the jobs that keep it: its raw log, the commands' files, and commands in one JVM."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from tests.spark_jobs.conftest import QUICK
from tests.support.datasets import SPECS, raw_log, reference_requests

SPEC = SPECS["feed"].model_copy(update={"partition": SPECS["shop"].partition})
RAW = raw_log(SPEC, users=3)
VICTIM = 2
UPKEEP = [
    "ingest feed.yaml raw/first.parquet",
    "ingest feed.yaml raw/late.parquet",
    "compact feed --every",
    "backfill feed --feature slate --from slate.parquet",
    "tag create feed v1",
    "expire feed",
    "erase feed --users gone.txt --yes",
]
SMALL = {
    "REQLAKE_SPARK__MASTER": "local[2]",
    "REQLAKE_SPARK__DRIVER_MEMORY": "1g",
    "REQLAKE_SPARK__SHUFFLE_PARTITIONS": "2",
    "REQLAKE_SPARK__CONF": json.dumps(QUICK),
}
EACH_ONCE = """
import sys
from reqlake.cli import main
for command in sys.argv[1:]:
    if code := main(command.split()):
        sys.exit(f"reqlake {command}: exit code {code}")
"""


def prepare(folder: Path) -> pa.Array:
    """What `UPKEEP` reads; the backfill's values."""
    rows = reference_requests(RAW, SPEC)
    slate = pa.array([len(items) for items in rows["item_id"].to_pylist()], pa.int64())
    (folder / "raw").mkdir()
    pq.write_table(RAW.slice(0, 30), folder / "raw" / "first.parquet")
    pq.write_table(RAW.slice(30), folder / "raw" / "late.parquet")
    pq.write_table(rows.select(["user_id", "request_id"]).append_column("slate", slate), folder / "slate.parquet")
    (folder / "feed.yaml").write_text(yaml.safe_dump(SPEC.model_dump(mode="json", exclude_none=True)))
    (folder / "gone.txt").write_text(f"{VICTIM}\n")
    return slate


def run_in_one_jvm(folder: Path, *words: str, program: str = EACH_ONCE) -> subprocess.CompletedProcess[str]:
    """Run `program` on the words, with its lake in `folder`, in a process that knows nothing but its `reqlake.toml`."""
    done = subprocess.run(
        [sys.executable, "-c", program, *words],
        cwd=folder,
        env=os.environ | SMALL | {"REQLAKE_HOME": str(folder / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done
