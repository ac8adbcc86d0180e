"""`reqlake ingest`: what its words mean together, told before Spark is started."""

from __future__ import annotations

import pytest

from reqlake.cli.ingest import source_of
from spark_jobs.sources import TableRange
from tests.reqlake.cli.conftest import Run


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "give either the raw log's files"),
        (("log", "--table", "raw.impressions"), "give either the raw log's files"),
        (("log", "--from-snapshot", "7"), "are snapshots of a --table"),
        (("log", "--on-change", "reingest"), "are snapshots of a --table"),
        (("--table", "raw.impressions", "--stream", "--to-snapshot", "7"), "a stream goes on by itself"),
        (("log", "--stream", "--batch-id", "monday"), "a stream goes on by itself"),
        (("log", "--once"), "--once says that a --stream stops"),
    ],
)
def test_words_that_do_not_go_together_are_refused(words: tuple[str, ...], says: str, run: Run) -> None:
    said = run("ingest", "nowhere.yaml", *words)
    assert said.code == 1
    assert says in " ".join(said.err.split())


def test_files_or_a_range_of_a_table() -> None:
    assert source_of(("a", "b/*.orc"), None, None, None) == ["a", "b/*.orc"]
    assert source_of((), "raw.impressions", 0, 7) == TableRange("raw.impressions", after=0, to=7)
    changed = source_of((), "raw.impressions", on_change="reingest")
    assert changed == TableRange("raw.impressions", on_change="reingest")
