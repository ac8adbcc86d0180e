"""What goes wrong gives one clear error within seconds and leaves no thread; never a hang, never a shorter epoch."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.table import Table

from feature_reader import DataFileError, MemoryBoundError, Reader
from lakehouse.catalog import local_path, open_catalog
from lakehouse.errors import FormatError
from lakehouse.settings import Settings
from tests.feature_reader.plain import expected_rows, rows_of, same
from tests.support.datasets import SPECS, raw_log, reference_requests, write_request_table

pytestmark = pytest.mark.timeout(30)
SPEC = SPECS["video"]


@pytest.fixture
def video(settings: Settings) -> Table:
    return write_request_table(settings, SPEC, reference_requests(raw_log(SPEC), SPEC), files=2, row_group=7)


@pytest.fixture(autouse=True)
def no_thread_left() -> Any:
    yield
    gc.collect()
    assert not [t.name for t in threading.enumerate() if t.name.startswith("reqlake")]


def data_files(table: Table) -> list[Path]:
    return sorted(local_path(t.file.file_path) for t in table.scan().plan_files())


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def damage_pages(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4 : len(data) // 2] = bytes(len(data) // 2 - 4)
    path.write_bytes(data)


@pytest.mark.parametrize(("harm", "message"), [(Path.unlink, "is not there"), (truncate, "truncated")])
def test_a_harmed_file_is_named_when_planning(video: Table, harm: Callable[[Path], None], message: str) -> None:
    path = data_files(video)[1]
    harm(path)
    with pytest.raises(DataFileError, match=f"{path.name}.*{message}"):
        len(Reader(video))


@pytest.mark.parametrize("harm", [Path.unlink, damage_pages, lambda path: path.write_bytes(path.read_bytes()[:2000])])
def test_a_file_harmed_after_planning_is_named(video: Table, harm: Callable[[Path], None]) -> None:
    reader = Reader(video)
    assert len(reader.plan.units) > 3
    path = data_files(video)[1]
    harm(path)
    with pytest.raises(DataFileError, match=path.name):
        list(reader)


def test_lists_of_unequal_length_are_refused_with_file_and_row(settings: Settings) -> None:
    requests = reference_requests(raw_log(SPEC), SPEC)
    i = requests.schema.get_field_index("watched_seconds")
    broken = requests["watched_seconds"].to_pylist()
    broken[20] = [*broken[20], 1.0]
    requests = requests.set_column(i, requests.schema.field(i), pa.array(broken, requests.schema.field(i).type))
    table = write_request_table(settings, SPEC, requests)
    with pytest.raises(
        DataFileError,
        match=r"parquet, row group \d+, row \d+: 'watched_\w+' has \d+ entries, the sequence 'watched' \d+",
    ):
        list(Reader(table))


def test_vectors_of_the_wrong_size_are_refused(settings: Settings) -> None:
    requests = reference_requests(raw_log(SPEC), SPEC)
    i = requests.schema.get_field_index("taste")
    broken = [[1.0, 2.0]] * len(requests)
    requests = requests.set_column(i, requests.schema.field(i), pa.array(broken, requests.schema.field(i).type))
    with pytest.raises(DataFileError, match=r"column 'taste', value 0 has 2 elements, the spec says vector<float, 4>"):
        list(Reader(write_request_table(settings, SPEC, requests)))


def test_null_lists_and_vectors_take_their_siblings_length(settings: Settings) -> None:
    requests = reference_requests(raw_log(SPEC), SPEC)
    for name in ("taste", "watched_seconds", "look", "tags", "finished"):
        i = requests.schema.get_field_index(name)
        field = requests.schema.field(i)
        values = [None if row % 3 == 0 else v for row, v in enumerate(requests[name].to_pylist())]
        requests = requests.set_column(i, field, pa.array(values, field.type))
    table = write_request_table(settings, SPEC, requests, row_group=9)
    expected = expected_rows(requests, SPEC)
    for row in (r for batch in Reader(table) for r in rows_of(batch)):
        want = expected[row["request_id"]]
        nulls = [float("nan")] * len(want["watched_clip"])
        want["watched_seconds"] = want["watched_seconds"] or nulls
        assert same(row, want), row["request_id"]


def test_a_bound_that_cannot_hold_the_window_names_the_least_that_can(video: Table) -> None:
    with pytest.raises(MemoryBoundError, match=r"give at least memory_bytes=(\d+)") as caught:
        list(Reader(video, memory_bytes=5000, window=4))
    least = int(str(caught.value).split("memory_bytes=")[2].split(",")[0])
    assert sum(b.R for b in Reader(video, memory_bytes=least, window=4)) == 60
    with pytest.raises(MemoryBoundError):
        list(Reader(video, memory_bytes=least - 1, window=4))


def test_a_table_that_is_not_ours_is_refused(settings: Settings, video: Table) -> None:
    catalog = open_catalog(settings)
    table = catalog.create_table("reqlake.other", schema=pa.schema({"x": pa.int64()}))
    with pytest.raises(FormatError, match=r"reqlake\.other is not a request table"):
        Reader(table)
    assert video


def test_a_read_that_fails_once_is_tried_again(video: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = []
    read = pq.ParquetFile.read_row_group

    def flaky(self: pq.ParquetFile, *args: Any, **kwargs: Any) -> pa.Table:
        if len(failed) < 2:
            failed.append(1)
            raise OSError("connection reset")
        return read(self, *args, **kwargs)

    reader = Reader(video)
    assert reader.plan
    monkeypatch.setattr(pq.ParquetFile, "read_row_group", flaky)
    assert sum(b.R for b in reader) == 60
    assert len(failed) == 2


def test_a_read_that_keeps_failing_is_given_up(video: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> pa.Table:
        raise OSError("connection reset")

    reader = Reader(video)
    assert reader.plan
    monkeypatch.setattr(pq.ParquetFile, "read_row_group", broken)
    with pytest.raises(DataFileError, match=r"cannot read .*parquet after up to 3 attempts: connection reset"):
        list(reader)
    assert reader.state_dict()["requests_consumed"] == 0
