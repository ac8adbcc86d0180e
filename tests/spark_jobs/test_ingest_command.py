"""`python -m spark_jobs.ingest`: the report as JSON on stdout, steps and errors on stderr."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from lakehouse.settings import Settings
from spark_jobs.ingest import main
from tests.spark_jobs.conftest import published
from tests.support.datasets import SPECS, raw_log

pytestmark = pytest.mark.spark
SPEC = SPECS["feed"]


@pytest.mark.usefixtures("spark")
def test_the_command_ingests_reports_and_refuses(
    settings: Settings, write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REQLAKE_HOME", str(settings.home))
    file = tmp_path / "feed.yaml"
    file.write_text(yaml.safe_dump(SPEC.model_dump(mode="json", exclude_none=True)))
    raw = raw_log(SPEC, users=3)
    folder = write(raw)

    assert main(["--spec", str(file), "--batch-id", "monday", folder]) == 0
    said = capsys.readouterr()
    report = json.loads(said.out)
    assert (report["batch_id"], report["raw_rows"], report["skipped"]) == ("monday", len(raw), False)
    assert report["requests"] == len(published(settings, SPEC))
    assert "Grouping" in said.err

    assert main(["--spec", str(file), str(tmp_path / "nowhere")]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines()[-1].startswith("error: ")
    assert "nowhere" in said.err
