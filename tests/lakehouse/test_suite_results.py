"""What the suite found, kept: each batch once, its trend in the terminal and on a page, odd batches told."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from lakehouse.catalog import open_catalog
from lakehouse.errors import AuditError
from lakehouse.quality import RuleResult, ValidationReport
from lakehouse.quality.page import render
from lakehouse.quality.results import by_batch, keep_results, read_results
from lakehouse.quality.volume import Observation, hold_against, warnings_of
from lakehouse.settings import QualitySettings, Settings, load_settings
from reqlake.cli.app import main
from reqlake.show.quality import show_history, spark_line
from tests.support.datasets import SPECS, raw_log, reference_requests, write_request_table

FEED = SPECS["feed"]
GOOD = RuleResult("hour_in_range", "hour lies in [0, 23]", passed=True)
BAD = RuleResult("hour_in_range", "hour lies in [0, 23]", False, 3, ("(user 17, request 42)",))


def keep(settings: Settings, batch: str, rows: int, rule: RuleResult = GOOD, nulls: float = 0.1) -> None:
    report = ValidationReport(FEED.table(), rows, (rule,), 0.1)
    seen = [Observation("volume.requests", rows, 100.0, rows < 400), Observation("nulls.score", nulls, None, True)]
    keep_results(open_catalog(settings), FEED, settings, report, batch_id=batch, snapshot_id=1, observations=seen)


def test_a_batch_that_is_tried_again_is_kept_once(settings: Settings) -> None:
    catalog = open_catalog(settings)
    assert read_results(catalog, FEED, settings) == []
    keep(settings, "monday", 100)
    keep(settings, "tuesday", 500, BAD)
    keep(settings, "tuesday", 120, GOOD, nulls=0.5)
    results = read_results(catalog, FEED, settings)
    assert [(r.batch_id, r.expectation, r.success, r.observed) for r in results if r.batch_id == "tuesday"] == [
        ("tuesday", "hour_in_range", True, 0.0),
        ("tuesday", "volume.requests", True, 120.0),
        ("tuesday", "nulls.score", True, 0.5),
    ]
    assert [(b.batch_id, b.rows, len(b.failed)) for b in by_batch(results)] == [("monday", 100, 0), ("tuesday", 120, 0)]
    assert {r.snapshot_id for r in results} == {1}
    assert read_results(catalog, FEED, settings, scope="table") == []


def test_two_jobs_that_write_at_once_both_end_up_in_it(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyiceberg.table import Table

    keep(settings, "monday", 1)
    append = Table.append

    def overtaken(table: Table, *given: object, **more: object) -> None:
        monkeypatch.setattr(Table, "append", append)
        keep(settings, "other", 2)
        append(table, *given, **more)

    monkeypatch.setattr(Table, "append", overtaken)
    keep(settings, "mine", 3)
    found = read_results(open_catalog(settings), FEED, settings)
    assert sorted((b.batch_id, b.rows) for b in by_batch(found)) == [("mine", 3), ("monday", 1), ("other", 2)]


@pytest.mark.parametrize(
    ("observed", "nulls", "says"),
    [
        (100, 0.1, []),
        (399, 0.3, []),
        (401, 0.1, ["401 requests, 100 in the last batches"]),
        (24, 0.35, ["24 requests, 100 in the last batches", "nulls of score: 35.0%, 10.0% in the last batches"]),
    ],
)
def test_a_batch_is_held_against_the_medians_of_the_last(observed: float, nulls: float, says: list[str]) -> None:
    last = [{"volume.requests": n, "nulls.score": s} for n, s in ((90, 0.1), (100, 0.1), (5000, 0.9))]
    numbers = {"volume.requests": float(observed), "nulls.score": nulls, "nulls.new": 1.0}
    found = hold_against(numbers, last, QualitySettings(volume_batches=3))
    assert list(warnings_of(found, QualitySettings())) == says
    if says:
        with pytest.raises(AuditError, match="unlike the last batches"):
            warnings_of(found, QualitySettings(volume="refuse"))
    assert all(o.passed for o in hold_against(numbers, last[:2], QualitySettings())), "two batches have no median"


def test_the_history_in_the_terminal(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for i, rows in enumerate((100, 200, 400)):
        keep(settings, f"batch-{i}", rows, BAD if i == 1 else GOOD, nulls=i / 10)
    console = Console(record=True, width=100)
    show_history(console, read_results(open_catalog(settings), FEED, settings))
    said = console.export_text()
    for shown in ("batch-1", "hour_in_range 3", "all hold", "400 requests, 100 in the last batches", "▁▅█ 20.0%"):
        assert shown in said
    assert spark_line([0.0, 0.0]) == "▁▁"
    write_request_table(settings, FEED, reference_requests(raw_log(FEED, users=1), FEED))
    monkeypatch.setenv("REQLAKE_HOME", str(settings.home))
    assert main(["validate", FEED.table(), "--history"]) == 0


def test_the_page_names_columns_and_no_key_of_a_row(settings: Settings, tmp_path: Path) -> None:
    keep(settings, "monday", 100, BAD)
    results = read_results(open_catalog(settings), FEED, settings)
    page = render(FEED, ValidationReport(FEED.table(), 100, (BAD, GOOD), 0.1), results)
    assert "hour lies in [0, 23]" in page
    assert "<td>3</td>" in page
    assert "42" not in page.split("</style>")[1]
    assert load_settings(quality={"page": tmp_path}).quality.page == tmp_path
