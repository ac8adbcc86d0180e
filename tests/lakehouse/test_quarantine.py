"""What is held in quarantine, read without Spark."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from lakehouse.catalog import open_catalog
from lakehouse.errors import RawDataError
from lakehouse.quarantine import held_groups, held_rows
from lakehouse.settings import Settings
from reqlake.cli.app import main
from spark_jobs.quarantine import ensure_quarantine
from tests.support.datasets import SPECS, raw_log, reference_requests, write_request_table

SPEC = SPECS["shop"]  # its users are sensitive
NOW = datetime(2026, 5, 1, tzinfo=UTC)
ROWS = [
    ("monday", "null_key", "position", "a.parquet", 3, {"customer": "ann", "visit": "v1", "slot": None}),
    ("monday", "null_key", "position", "b.parquet", 1, {"customer": "bob", "visit": "v2", "slot": None}),
    ("monday", "bad_item", "item_id", "a.parquet", 5, {"customer": None, "visit": "v3", "sku": None}),
    ("sunday", "bad_item", "item_id", "old.parquet", 0, {"customer": "cy", "visit": "v4", "sku": None}),
]


@pytest.fixture
def held(settings: Settings) -> Settings:
    write_request_table(settings, SPEC, reference_requests(raw_log(SPEC, users=2), SPEC))
    catalog = open_catalog(settings)
    table = catalog.load_table(ensure_quarantine(catalog, SPEC, settings))
    rows = [
        {
            "batch_id": batch,
            "reason": reason,
            "detail": detail,
            "file": f"file:///raw/{file}",
            "row": row,
            "raw": json.dumps(raw),
            "quarantined_at": NOW - timedelta(days=batch == "sunday"),
        }
        for batch, reason, detail, file, row, raw in ROWS
    ]
    table.append(pa.Table.from_pylist(rows, schema=table.schema().as_arrow()))
    return settings


def test_groups_are_the_newest_batch_first(held: Settings) -> None:
    found = [(g.batch_id, g.reason, g.rows, g.files) for g in held_groups(open_catalog(held), SPEC, held)]
    assert found == [("monday", "null_key", 2, 2), ("monday", "bad_item", 1, 1), ("sunday", "bad_item", 1, 1)]


def test_rows_by_reason_and_batch_with_sensitive_values_masked(held: Settings) -> None:
    catalog = open_catalog(held)
    rows = held_rows(catalog, SPEC, held, reason="bad_item")
    assert [(r.file, r.row, r.raw["customer"], r.raw["visit"]) for r in rows] == [
        ("file:///raw/a.parquet", 5, None, "v3"),
        ("file:///raw/old.parquet", 0, "***", "v4"),
    ]
    assert [r.row for r in held_rows(catalog, SPEC, held, batch_id="monday", limit=2)] == [3, 5]
    with pytest.raises(RawDataError, match=r"reason 'bad_itm'\. Did you mean 'bad_item'\?"):
        held_rows(catalog, SPEC, held, reason="bad_itm")


def test_a_dataset_without_quarantine_holds_nothing(settings: Settings) -> None:
    assert held_groups(open_catalog(settings), SPEC, settings) == []
    assert held_rows(open_catalog(settings), SPEC, settings, reason="bad_item") == []


def test_the_commands(held: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert held.home.name == "lake"
    assert main(["quarantine", "list", SPEC.table()]) == 0
    assert "null_key" in capsys.readouterr().out
    assert main(["quarantine", "show", SPEC.table(), "--reason", "null_key", "--limit", "1"]) == 0
    shown = capsys.readouterr().out
    assert "null_key (position)  a.parquet row 3" in shown
    assert "ann" not in shown
