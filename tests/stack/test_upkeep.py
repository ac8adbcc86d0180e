"""The upkeep commands on Postgres and S3, by settings alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml

from lakehouse.catalog import open_catalog
from lakehouse.lease import lease_name
from lakehouse.settings import load_settings
from lakehouse.stack.config import merge_settings
from lakehouse.stack.state import Stack
from lakehouse.tags import list_tags
from lakehouse.upkeep.files import referenced, stored
from lakehouse.upkeep.traces import find_traces
from lakehouse.upkeep.wanted import Wanted
from spark_jobs import orphans
from tests.spark_jobs.conftest import QUICK, rows_of
from tests.support.datasets import SPECS, raw_log, reference_requests

pytestmark = [pytest.mark.integration, pytest.mark.spark]
SPEC = SPECS["feed"].model_copy(update={"partition": SPECS["shop"].partition})
VICTIM = 2
COMMANDS = [
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
IN_ONE_JVM = """
import sys
from reqlake.cli import main
for command in sys.argv[1:]:
    if code := main(command.split()):
        sys.exit(f"reqlake {command}: exit code {code}")
"""


def test_every_job_does_what_it_does_embedded(stack: Stack, tmp_path: Path) -> None:
    """In a process that knows nothing but `reqlake.toml`; then the storage, file by file."""
    sections = stack.settings(("postgres", "s3"))
    sections["catalog"] |= {"name": "upkeep", "warehouse": "s3://lake/upkeep"}  # a warehouse of its own to decode
    sections["maintenance"] = {"keep_days": 0, "orphan_hours": 0}
    merge_settings(tmp_path / "reqlake.toml", sections)
    raw = raw_log(SPEC, users=3)
    rows = reference_requests(raw, SPEC)
    slate = pa.array([len(items) for items in rows["item_id"].to_pylist()], pa.int64())
    (tmp_path / "raw").mkdir()
    pq.write_table(raw.slice(0, 30), tmp_path / "raw" / "first.parquet")
    pq.write_table(raw.slice(30), tmp_path / "raw" / "late.parquet")
    pq.write_table(rows.select(["user_id", "request_id"]).append_column("slate", slate), tmp_path / "slate.parquet")
    (tmp_path / "feed.yaml").write_text(yaml.safe_dump(SPEC.model_dump(mode="json", exclude_none=True)))
    (tmp_path / "gone.txt").write_text(f"{VICTIM}\n")
    done = subprocess.run(
        [sys.executable, "-c", IN_ONE_JVM, *COMMANDS],
        cwd=tmp_path,
        env=os.environ | SMALL | {"REQLAKE_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]

    lake = load_settings(home=tmp_path / "home", **sections)
    catalog = open_catalog(lake)
    table = catalog.load_table(SPEC.table())
    left = rows_of(rows.append_column("slate", slate).filter(pc.not_equal(rows["user_id"], VICTIM)))
    assert rows_of(table.scan().to_arrow()) == left
    (v1,) = list_tags(catalog, SPEC, lake)
    assert rows_of(table.scan(snapshot_id=v1.snapshot_of(SPEC.table())).to_arrow()) == left
    assert {s.snapshot_id for s in table.metadata.snapshots} == {
        ref.snapshot_id for ref in table.metadata.refs.values()
    }
    assert catalog.load_table(SPEC.table("ledger")).scan().to_arrow().num_rows == 2
    assert not catalog.table_exists(lease_name(SPEC))
    report = json.loads(next((tmp_path / "home" / "reports").glob("erase-feed-*.json")).read_text())
    assert (report["proved"], set(report["decoded"])) == (True, {"parquet", "avro", "json"})

    with table.io.new_output(f"{table.location()}/data/lost.parquet").create() as lost:
        lost.write(b"half a fi")
    assert sum(r.removed_files for r in orphans.run(lake, SPEC)) == 1
    lying = {f.path for f in stored(table.io, table.location())}
    assert lying == referenced(table.refresh())
    found = find_traces(table.io, (f"s3://{path}" for path in lying), Wanted.of(SPEC, frozenset({1}), frozenset("1")))
    assert {"values of user_id", "bounds of user_id in a manifest"} <= {t.what for t in found.traces}
