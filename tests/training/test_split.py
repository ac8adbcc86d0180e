"""The split by time: thresholds from key columns, parts that add up, and readers that keep to them."""

from __future__ import annotations

import pytest

from feature_reader import Reader
from lakehouse.settings import Settings
from tests.support.datasets import SPECS, raw_log, reference_requests, write_request_table
from training.errors import TrainingError
from training.split import time_split


def table(settings: Settings, users: int = 20):
    spec = SPECS["feed"]
    return write_request_table(settings, spec, reference_requests(raw_log(spec, users=users, fanout=2), spec))


def times(table, row_filter: str) -> list[int]:
    reader = Reader(table, columns=["request_ts"], row_filter=row_filter, batch_requests=1000)
    return sorted(t for batch in reader for t in batch.request["request_ts"].tolist())


def test_parts_follow_each_other_and_add_up(settings: Settings) -> None:
    requests = table(settings)
    split = time_split(requests, validation_share=0.2, test_share=0.1)
    train, validation, test = (times(requests, f) for f in (split.train, split.validation, split.test))
    assert max(train) < min(validation) <= max(validation) < min(test)
    assert (len(train), len(validation), len(test)) == (
        split.train_requests,
        split.validation_requests,
        split.test_requests,
    )
    assert len(train) + len(validation) + len(test) == 60
    assert abs(len(test) - 6) <= 1
    assert abs(len(validation) - 12) <= 1
    assert times(requests, split.before_test) == train + validation


@pytest.mark.parametrize("shares", [(0.0, 0.1), (0.6, 0.5)])
def test_shares_leave_something_to_train_on(settings: Settings, shares: tuple[float, float]) -> None:
    with pytest.raises(TrainingError, match="validation_share"):
        time_split(table(settings, users=2), validation_share=shares[0], test_share=shares[1])


def test_too_few_requests_are_named(settings: Settings) -> None:
    spec = SPECS["feed"]
    one = reference_requests(raw_log(spec, users=1, requests_per_user=2), spec)
    with pytest.raises(TrainingError, match=r"reqlake\.feed_requests holds 2 requests: at least 3"):
        time_split(write_request_table(settings, spec, one))
