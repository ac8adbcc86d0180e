"""What `reqlake ingest --labels` says of a batch, and which words it refuses."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from reqlake.cli.app import main
from reqlake.show.labels import show_labels
from spark_jobs.label_batch import LabelReport
from tests.support.datasets import SPECS

REPORT = LabelReport(
    "labels-abc", rows=9, labels=8, matched=6, waiting=2, updated=5, requests=4, dropped=1, quarantined={"null_key": 1}
)


def said(report: LabelReport) -> str:
    text = io.StringIO()
    show_labels(Console(file=text, width=200), report, SPECS["video"])
    return " ".join(text.getvalue().split())


def test_every_label_is_accounted_for() -> None:
    shown = said(REPORT)
    assert "8 labels in 9 rows 1 rows go to reqlake.video_quarantine: null_key 1" in shown
    assert "6 name impressions of the table 5 values changed, in 4 requests written anew" in shown
    assert "2 wait for their impression in reqlake.video_pending_labels" in shown
    assert "1 had waited too long" in shown
    assert "waited too long" not in said(LabelReport("labels-abc", labels=1, matched=1))
    assert "No label was changed" in said(LabelReport("labels-abc", skipped=True))


@pytest.mark.parametrize("words", [[], ["a.parquet", "--table", "a.b"], ["a.parquet", "--stream"]])
def test_labels_come_in_files(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ingest", str(tmp_path / "spec.yaml"), *words, "--labels"]) == 1
    assert "--labels wants files" in capsys.readouterr().err
