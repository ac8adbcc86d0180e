"""String ids, late labels and a changed spec on Postgres and S3, by settings alone; Trino's views follow the spec."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from lakehouse.catalog import open_catalog
from lakehouse.ids import hashed, strings_of
from lakehouse.settings import load_settings
from lakehouse.spec import parse_spec
from lakehouse.stack.config import merge_settings
from lakehouse.stack.state import Stack
from tests.stack.upkeep_lake import run_in_one_jvm

pytestmark = [pytest.mark.integration, pytest.mark.spark, pytest.mark.exhaustive]
BEFORE: dict[str, Any] = {
    "name": "late",
    "namespace": "late",
    "keys": {
        "user_id": {"column": "user", "type": "string"},
        "request_id": "request",
        "request_ts": "opened",
        "item_id": "item",
    },
    "request_features": {"country": "string"},
    "labels": {"click": {"type": "float", "time": "clicked_at"}},
    "partition": {"buckets": 2},
}
AFTER: dict[str, Any] = BEFORE | {
    "request_features": {"country": "string", "device": "string"},
    "labels": {"tap": {"type": "float", "time": "clicked_at", "column": "click", "renamed_from": "click"}},
}
COMMANDS = [
    "ingest before.yaml first.parquet",
    "ingest before.yaml --labels labels.parquet",
    "views apply before.yaml",
    "spec apply after.yaml --views",
    "ingest after.yaml late.parquet",
    "maintain after.yaml",
]


def rows(*impressions: tuple[int, float, int], labels: bool = False) -> pa.Table:
    """(item, click, hours after the request when it was told) of one request."""
    opened = datetime(2026, 5, 1, 12, tzinfo=UTC)
    found = [
        {"user": "ü1", "request": 7, "item": item, "click": click, "clicked_at": opened.replace(hour=12 + hours)}
        | ({} if labels else {"opened": opened, "country": "de"})
        for item, click, hours in impressions
    ]
    table = pa.Table.from_pylist(found)
    place = table.schema.get_field_index("click")
    return table.set_column(place, "click", table["click"].cast(pa.float32()))


def test_late_labels_ids_and_a_changed_spec_on_servers(stack: Stack, query: Any, tmp_path: Path) -> None:
    sections = stack.settings(("postgres", "s3", "trino"))
    sections["maintenance"] = {"small_files": 2, "keep_days": 0}
    merge_settings(tmp_path / "reqlake.toml", sections)
    for name, spec in (("before", BEFORE), ("after", AFTER)):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(spec))
    pq.write_table(rows((10, 0.0, 0), (20, 0.0, 0)), tmp_path / "first.parquet")
    pq.write_table(rows((10, 1.0, 1), (30, 1.0, 2), labels=True), tmp_path / "labels.parquet")
    pq.write_table(rows((30, 0.0, 0)), tmp_path / "late.parquet")
    done = run_in_one_jvm(tmp_path, *COMMANDS)
    assert "1 labels that wait for their impression have their new name" in done.stdout

    lake, spec = load_settings(home=tmp_path / "home", **sections), parse_spec(AFTER)
    catalog = open_catalog(lake)
    (request,) = catalog.load_table(spec.table()).scan().to_arrow().to_pylist()
    assert (request["item_id"], request["tap"], request["device"]) == ([10, 20, 30], [1.0, 0.0, 1.0], None)
    assert catalog.load_table(spec.table("pending_labels")).scan().to_arrow().num_rows == 0
    assert strings_of(catalog, spec, lake, "user_id", [hashed("ü1")]) == {hashed("ü1"): "ü1"}
    ledger = catalog.load_table(spec.table("ledger"))
    assert (ledger.scan().to_arrow().num_rows, len(list(ledger.scan().plan_files()))) == (3, 1)
    assert sorted(query("SELECT item_id, tap, device FROM late.late_impressions")) == [
        [10, 1.0, None],
        [20, 0.0, None],
        [30, 1.0, None],
    ]
