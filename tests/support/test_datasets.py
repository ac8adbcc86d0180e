"""The reference itself: it loses nothing, and its table reads back as it was written."""

from __future__ import annotations

import pytest

from lakehouse.settings import Settings
from tests.support.datasets import SPECS, raw_log, reference_requests, write_request_table


@pytest.mark.parametrize("name", SPECS)
def test_reference_keeps_every_impression(name: str) -> None:
    spec = SPECS[name]
    raw = raw_log(spec)
    requests = reference_requests(raw, spec)
    assert len(requests) == 60
    assert sum(map(len, requests["item_id"].to_pylist())) == len(raw)


@pytest.mark.parametrize("name", SPECS)
def test_table_reads_back_as_written(name: str, settings: Settings) -> None:
    spec = SPECS[name]
    requests = reference_requests(raw_log(spec), spec)
    table = write_request_table(settings, spec, requests)
    back = table.scan().to_arrow().sort_by([("user_id", "ascending"), ("request_id", "ascending")])
    assert back.to_pylist() == requests.to_pylist()
