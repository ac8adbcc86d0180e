"""A rebucket whole on Postgres and S3: built, swapped, gone back on, done again, and the table of before removed."""

from __future__ import annotations

from pathlib import Path

import pytest

from lakehouse.catalog import open_catalog, table_names
from lakehouse.schema import table_spec
from lakehouse.settings import load_settings
from lakehouse.stack.config import merge_settings
from lakehouse.stack.state import Stack
from lakehouse.tags import tag_of
from lakehouse.upkeep.files import bare, stored
from lakehouse.upkeep.in_order import in_order
from spark_jobs.layout import ORDER
from tests.spark_jobs.conftest import rows_of
from tests.stack.upkeep_lake import RAW, SPEC, prepare, run_in_one_jvm
from tests.support.datasets import reference_requests

pytestmark = [pytest.mark.integration, pytest.mark.spark, pytest.mark.exhaustive]
COMMANDS = [
    "ingest feed.yaml raw/first.parquet",
    "tag create feed v1",
    "ingest feed.yaml raw/late.parquet",
    "rebucket feed --buckets 3",
    "rebucket feed --back",
    "rebucket feed --back",
    "rebucket feed --drop-kept",
]


def test_a_rebucket_and_back_on_postgres_and_s3(stack: Stack, tmp_path: Path) -> None:
    sections = stack.settings(("postgres", "s3"))
    sections["catalog"] |= {"name": "rebucket", "warehouse": "s3://lake/rebucket"}
    merge_settings(tmp_path / "reqlake.toml", sections)
    prepare(tmp_path)
    run_in_one_jvm(tmp_path, *COMMANDS)
    lake = load_settings(home=tmp_path / "home", **sections)
    catalog = open_catalog(lake)
    table = catalog.load_table(SPEC.table())
    assert table_spec(table).partition.buckets == 3
    assert rows_of(table.scan().to_arrow()) == rows_of(reference_requests(RAW, SPEC))
    v1 = tag_of(catalog, SPEC, lake, "v1").snapshot_of(SPEC.table())
    assert rows_of(table.scan(snapshot_id=v1).to_arrow()) == rows_of(reference_requests(RAW.slice(0, 30), SPEC))
    assert all(in_order(table.io, task.file.file_path, ORDER) for task in table.scan().plan_files())
    assert [name for name in table_names(catalog, SPEC.namespace) if "requests" in name] == [SPEC.table()]
    lying = {f.path for f in stored(table.io, lake.catalog.warehouse) if "requests" in f.path}
    assert all(path.startswith(bare(table.location())) for path in lying)
