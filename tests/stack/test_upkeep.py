"""The upkeep commands on Postgres and S3, by settings alone."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.compute as pc
import pytest

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
from tests.spark_jobs.conftest import rows_of
from tests.stack.upkeep_lake import RAW, SPEC, UPKEEP, VICTIM, prepare, run_in_one_jvm
from tests.support.datasets import reference_requests

pytestmark = [pytest.mark.integration, pytest.mark.spark]


def test_every_job_does_what_it_does_embedded(stack: Stack, tmp_path: Path) -> None:
    """In a process that knows nothing but `reqlake.toml`; then the storage, file by file."""
    sections = stack.settings(("postgres", "s3"))
    sections["catalog"] |= {"name": "upkeep", "warehouse": "s3://lake/upkeep"}  # a warehouse of its own to decode
    sections["maintenance"] = {"keep_days": 0, "orphan_hours": 0}
    merge_settings(tmp_path / "reqlake.toml", sections)
    slate, rows = prepare(tmp_path), reference_requests(RAW, SPEC)
    run_in_one_jvm(tmp_path, *UPKEEP)

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
