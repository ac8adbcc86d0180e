"""What an earlier version wrote, this one reads: the golden files, opened where they were not made."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from pyiceberg.table import StaticTable

from feature_reader import Reader
from lakehouse.schema import table_spec
from lakehouse.spec import load_spec
from tests.support.datasets import SPECS, raw_log, reference_requests

FORMATS = sorted(p.name for p in Path(__file__).parent.glob("v*"))


@pytest.fixture(params=FORMATS)
def golden(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of one format's files, as the current folder: table locations in them are relative."""
    shutil.copytree(Path(__file__).parent / request.param, tmp_path / "golden")
    monkeypatch.chdir(tmp_path / "golden")
    return tmp_path / "golden"


def open_table(golden: Path) -> StaticTable:
    metadata = golden / "table" / "metadata"
    return StaticTable.from_metadata(f"table/metadata/{(metadata / 'current').read_text(encoding='utf-8')}")


def test_spec_reads(golden: Path) -> None:
    assert load_spec(golden / "spec.yaml") == SPECS["video"]


def test_table_reads_with_its_spec_and_rows(golden: Path) -> None:
    table = open_table(golden)
    assert table_spec(table) == load_spec(golden / "spec.yaml")
    rows = table.scan().to_arrow().sort_by([("user_id", "ascending"), ("request_id", "ascending")])
    spec = table_spec(table)
    assert rows.to_pylist() == reference_requests(raw_log(spec, users=4, requests_per_user=3), spec).to_pylist()


def test_reader_states_go_on_with_the_same_requests(golden: Path) -> None:
    states = sorted(golden.glob("reader_state*.json"))
    assert states
    for file in states:
        saved = json.loads(file.read_text(encoding="utf-8"))
        reader = Reader(open_table(golden), batch_requests=5, seed=11)
        reader.load_state_dict(saved["state"])
        assert [batch.request["request_id"].tolist() for batch in reader] == saved["following"], file.name
