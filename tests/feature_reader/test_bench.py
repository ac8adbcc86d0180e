"""`bench` tries settings on the table itself and says what bounds each."""

from __future__ import annotations

import pytest
from pyiceberg.table import Table

from feature_reader import MemoryBoundError, ReaderError, bench
from lakehouse.settings import Settings
from tests.support.datasets import SPECS, raw_log, reference_requests, write_request_table


@pytest.fixture
def feed(settings: Settings) -> Table:
    spec = SPECS["feed"]
    return write_request_table(settings, spec, reference_requests(raw_log(spec), spec), files=2, row_group=7)


def test_each_setting_is_measured(feed: Table) -> None:
    report = bench(feed, threads=(1, 2), windows=(1, 3), seconds=0.05)
    assert [(row.window, row.threads) for row in report.rows] == [(1, 1), (1, 2), (3, 1), (3, 2)]
    assert all(row.candidates_per_s > row.requests_per_s > 0 for row in report.rows)
    assert report.best in report.rows


def test_a_slow_loop_is_named(feed: Table) -> None:
    report = bench(feed, threads=(1,), windows=(1,), seconds=0.2, consume=lambda _: sum(range(30_000_000)))
    assert report.rows[0].bound == "consumer"


def test_what_cannot_be_measured_is_refused(feed: Table) -> None:
    with pytest.raises(ReaderError, match="has no requests to read"):
        bench(feed, row_filter="user_id < 0")
    with pytest.raises(MemoryBoundError, match="memory_bytes=1000"):
        bench(feed, memory_bytes=1000, threads=(1,))
