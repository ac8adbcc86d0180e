"""The split by time: train on the past, choose on what came next, test on the latest.

A random split would let the model see a user's later requests. The thresholds come from a scan of the key columns
alone, so that training and evaluation of any process agree on them without a column of their own.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
from pyiceberg.table import Table

from training.errors import TrainingError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class TimeSplit:
    """Train before `validation_from`, validate before `test_from`, test from there on; microseconds UTC."""

    validation_from: int
    test_from: int
    train_requests: int
    validation_requests: int
    test_requests: int

    @property
    def train(self) -> str:
        """The training rows as a row filter."""
        return f"request_ts < '{timestamp(self.validation_from)}'"

    @property
    def validation(self) -> str:
        """The validation rows as a row filter."""
        since, until = timestamp(self.validation_from), timestamp(self.test_from)
        return f"request_ts >= '{since}' and request_ts < '{until}'"

    @property
    def before_test(self) -> str:
        """Training and validation rows as a row filter."""
        return f"request_ts < '{timestamp(self.test_from)}'"

    @property
    def test(self) -> str:
        """The test rows as a row filter."""
        return f"request_ts >= '{timestamp(self.test_from)}'"

    def to_json(self) -> dict[str, Any]:
        """As JSON's types."""
        return asdict(self)


def timestamp(microseconds: int) -> str:
    """A time as row filters read it."""
    return (EPOCH + timedelta(microseconds=microseconds)).isoformat(timespec="microseconds")


def time_split(
    table: Table, snapshot_id: int | None = None, *, validation_share: float = 0.1, test_share: float = 0.1
) -> TimeSplit:
    """Thresholds that leave about these shares of a snapshot's requests; requests of one instant stay together.

    Raises TrainingError if a part would be empty.
    """
    if not (0 < validation_share < 1 and 0 < test_share < 1 and validation_share + test_share < 1):
        raise TrainingError(
            f"validation_share {validation_share} and test_share {test_share} must be above 0, and 1 in all is too much"
        )
    scan = table.scan(selected_fields=("request_ts",), snapshot_id=snapshot_id)
    times = np.sort(
        np.concatenate([_times(batch) for batch in scan.to_arrow_batch_reader()] or [np.zeros(0, np.int64)])
    )
    n = len(times)
    name = ".".join(table.name())
    if n < 3:
        raise TrainingError(f"{name} holds {n} requests: at least 3 are needed to train, validate and test")
    test_from = int(times[min(n - 1, round(n * (1 - test_share)))])
    validation_from = int(times[min(n - 1, round(n * (1 - test_share - validation_share)))])
    train, before_test = (int(np.searchsorted(times, at)) for at in (validation_from, test_from))
    if not 0 < train < before_test < n:
        raise TrainingError(
            f"{name}: a split by time leaves {train}, {before_test - train} and {n - before_test} requests to train, "
            "validate and test; too many requests share an instant, or there are too few"
        )
    return TimeSplit(
        validation_from=validation_from,
        test_from=test_from,
        train_requests=train,
        validation_requests=before_test - train,
        test_requests=n - before_test,
    )


def _times(batch: pa.RecordBatch) -> np.ndarray[Any, np.dtype[np.int64]]:
    times: np.ndarray[Any, np.dtype[np.int64]] = batch.column("request_ts").cast(pa.int64()).to_numpy()
    return times
