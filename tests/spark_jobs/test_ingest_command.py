"""`spark-submit spark_jobs/ingest.py`: the report as JSON on stdout, steps and errors on stderr."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from lakehouse.catalog import open_catalog
from lakehouse.settings import Settings
from spark_jobs.ingest import main
from spark_jobs.java import find_java
from spark_jobs.session import session_conf
from tests.spark_jobs.conftest import published, rows_of
from tests.support.datasets import SPECS, raw_log, reference_requests
from tests.support.quick import QUICK

pytestmark = pytest.mark.spark
SPEC = SPECS["feed"]


ROOT = Path(__file__).parents[2]


def submit(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The job in a process of its own, as a cluster's scheduler starts it: the session is spark-submit's."""
    compiled = {k: v for k, v in session_conf(settings).items() if k not in QUICK}
    conf = [part for key, value in compiled.items() for part in ("--conf", f"{key}={value}")]
    command = [str(Path(sys.executable).with_name("spark-submit")), *conf, "spark_jobs/ingest.py", *arguments]
    python = {"PYTHONPATH": str(ROOT), "PYSPARK_PYTHON": sys.executable, "PYSPARK_DRIVER_PYTHON": sys.executable}
    java = {"JAVA_HOME": str(find_java(None)), "SPARK_LOCAL_IP": "127.0.0.1", "REQLAKE_HOME": str(settings.home)}
    return subprocess.run(command, cwd=ROOT, env=os.environ | python | java, capture_output=True, text=True)


def spec_file(folder: Path) -> str:
    """The spec as YAML."""
    file = folder / "feed.yaml"
    file.write_text(yaml.safe_dump(SPEC.model_dump(mode="json", exclude_none=True)))
    return str(file)


def test_spark_submit_ingests_and_reports(settings: Settings, write: Any, tmp_path: Path) -> None:
    raw = raw_log(SPEC, users=3)
    open_catalog(settings)  # PyIceberg makes the catalog's tables
    done = submit(settings, "--spec", spec_file(tmp_path), "--batch-id", "monday", write(raw))
    assert done.returncode == 0, done.stderr[-2000:]
    progress, brace, report = done.stdout.partition("{")  # spark-submit lays the driver's stderr on its stdout
    report = json.loads(brace + report)
    assert (report["batch_id"], report["raw_rows"], report["skipped"]) == ("monday", len(raw), False)
    assert rows_of(published(settings, SPEC)) == rows_of(reference_requests(raw, SPEC))
    assert "Grouping" in progress


@pytest.mark.usefixtures("spark")
def test_an_error_is_one_line_and_exit_code_1(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REQLAKE_HOME", str(settings.home))
    assert main(["--spec", spec_file(tmp_path), str(tmp_path / "nowhere")]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines()[-1].startswith("error: ")
    assert "nowhere" in said.err
