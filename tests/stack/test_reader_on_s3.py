"""The reader on a real S3 server that fails: tried again, or a clear error in seconds; never a shorter epoch."""

from __future__ import annotations

import gc
import pickle
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.table import Table

from feature_reader import DataFileError, DiskCache, Reader, storage
from feature_reader.testing import assert_batches_equal
from lakehouse.catalog import open_catalog
from lakehouse.settings import Settings
from lakehouse.stack.state import Stack
from tests.support.datasets import SPECS, raw_log, reference_requests, write_request_table
from tests.support.flaky_s3 import Fault, FlakyS3, flaky_s3

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]
SPEC = SPECS["video"]
OPTIONS: dict[str, Any] = {"batch_requests": 7, "window": 3}


@pytest.fixture(scope="module")
def video(lake: Settings) -> Table:
    """60 requests in some ten row groups, on Postgres and S3, beside those that other tests of this stack wrote."""
    return write_request_table(lake, SPEC, reference_requests(raw_log(SPEC), SPEC), files=2, row_group=7)


@pytest.fixture
def way(stack: Stack) -> Iterator[FlakyS3]:
    with flaky_s3(stack.ports["s3"]) as way:
        yield way


@pytest.fixture
def flaky(video: Table, lake: Settings, way: FlakyS3) -> Table:
    """The same table, reached by the flaky way."""
    return open_catalog(through(lake, way)).load_table(video.name())


def through(lake: Settings, way: FlakyS3) -> Settings:
    return lake.model_copy(update={"s3": lake.s3.model_copy(update={"endpoint": way.endpoint})})


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    yield
    gc.collect()
    assert not [t.name for t in threading.enumerate() if t.name.startswith("reqlake-")]


@pytest.mark.parametrize(("fault", "shuffle"), [("error", True), ("reset", False), ("cut", True), ("late", False)])
def test_a_third_of_the_requests_fail_and_the_epoch_is_whole(
    video: Table, flaky: Table, way: FlakyS3, fault: Fault, shuffle: bool
) -> None:
    way.fault = lambda number, _: fault if number % 3 == 0 else None
    way.each = storage.ATTEMPTS - 1  # by chance a third of all requests are three of one file in a row
    reader = Reader(flaky, **OPTIONS, shuffle=shuffle)
    for got, want in zip(reader, Reader(video, **OPTIONS, shuffle=shuffle), strict=True):
        assert_batches_equal(got, want)
    assert len(way.faults) >= way.each


@pytest.mark.parametrize("fault", ["error", "cut"])
def test_a_server_that_fails_every_time_is_a_clear_error_at_once(flaky: Table, way: FlakyS3, fault: Fault) -> None:
    reader = Reader(flaky, **OPTIONS)
    given = next(iter(reader))
    way.fault = lambda _number, _key: fault
    with pytest.raises(DataFileError, match=r"cannot read s3://.*\.parquet after up to 3 attempts: .*AWS Error"):
        list(reader)
    assert reader.requests_consumed == given.R == 7
    way.fault = lambda _number, _key: None
    assert sum(b.R for b in reader) == len(flaky.scan().to_arrow()) - 7  # it goes on from there


def test_a_server_that_never_answers_is_given_up_after_the_clients_own_timeout(
    video: Table, lake: Settings, way: FlakyS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "PATIENCE_S", 0.5)
    hasty = {"catalog": lake.catalog.model_copy(update={"properties": {"s3.request-timeout": "0.5"}})}
    reader = Reader(open_catalog(through(lake, way).model_copy(update=hasty)).load_table(video.name()), **OPTIONS)
    assert reader.plan
    way.fault = lambda _number, _key: "silent"
    with pytest.raises(DataFileError, match=r"cannot read s3://.*\.parquet after up to 3 attempts: .*[Tt]imeout"):
        list(reader)


def test_a_plan_that_cannot_be_read_is_named(flaky: Table, way: FlakyS3) -> None:
    way.fault = lambda _number, _key: "error"
    with pytest.raises(DataFileError, match=r"cannot read s3://.*metadata\.json, snapshot \d+ after up to 3 attempts"):
        len(Reader(flaky))


class Keys:
    """Gives the right keys, and counts how often it was asked."""

    def __init__(self, settings: Settings) -> None:
        assert settings.s3.secret_key is not None
        self.secret, self.key, self.asked = settings.s3.secret_key.get_secret_value(), settings.s3.access_key, 0

    def __call__(self) -> Mapping[str, str]:
        self.asked += 1
        return {"s3.access-key-id": str(self.key), "s3.secret-access-key": self.secret}


def test_credentials_that_expire_are_renewed_during_the_epoch(
    video: Table, flaky: Table, way: FlakyS3, lake: Settings
) -> None:
    keys = Keys(lake)
    reader = Reader(flaky, **OPTIONS, credentials=keys)
    assert reader.plan
    expired_from = way.requests + 8
    way.fault = lambda number, _key: "expired" if number >= expired_from and keys.asked == 0 else None
    for got, want in zip(reader, Reader(video, **OPTIONS), strict=True):
        assert_batches_equal(got, want)
    assert keys.asked == 1
    assert "expired" in way.faults


def test_without_new_credentials_the_error_names_the_way_to_give_them(flaky: Table, way: FlakyS3) -> None:
    reader = pickle.loads(pickle.dumps(Reader(flaky, **OPTIONS)))  # a worker process has no catalog to ask
    way.fault = lambda _number, _key: "expired"
    with pytest.raises(DataFileError, match=r"may not be read: .*credentials=<function that gives new ones>"):
        list(reader)


def test_a_catalog_that_vends_credentials_is_asked_by_itself(
    video: Table, lake: Settings, flaky: Table, way: FlakyS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a REST catalog does: each load of the table comes with keys of its own."""
    asked = []
    load = type(flaky.catalog).load_table

    def vend(*args: Any) -> Table:
        asked.append(args)
        return load(open_catalog(through(lake, way)), video.name())

    reader = Reader(flaky, **OPTIONS)
    assert reader.plan
    way.fault = lambda _number, _key: None if asked else "expired"
    monkeypatch.setattr(flaky.catalog, "load_table", vend)
    assert sum(batch.R for batch in reader) == len(video.scan().to_arrow()) >= 60
    assert len(asked) == 1


def test_a_second_epoch_from_the_disk_cache_asks_the_server_nothing(
    video: Table, flaky: Table, way: FlakyS3, tmp_path: Path
) -> None:
    way.fault = lambda number, _: "reset" if number % 4 == 0 else None
    reader = Reader(flaky, **OPTIONS, cache=DiskCache(tmp_path / "cache", 1 << 30))
    plain = Reader(video, **OPTIONS)
    asked = []
    for _ in range(2):
        for got, want in zip(reader, plain, strict=True):
            assert_batches_equal(got, want)
        asked.append(way.requests)
    assert asked[1] == asked[0]
    assert reader.stats.cache_hits == reader.stats.cache_misses == len(plain.plan.units)
