"""Row groups that the memory bound cannot hold are read in slices; what comes is what a larger bound gives."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pyiceberg.table import Table

from benchmarks.reader import peak_memory
from benchmarks.reader_data import request_table
from benchmarks.synthetic import Shape
from feature_reader import MemoryBoundError, Reader, files, memory, sources
from feature_reader.files import DataFiles
from feature_reader.testing import assert_batches_equal, delete_positions
from lakehouse.settings import Settings
from tests.support.datasets import SPECS, raw_log, reference_requests, write_request_table

pytestmark = pytest.mark.timeout(120)
SAME_TABLE = [HealthCheck.function_scoped_fixture]


def least(table: Table, **options: Any) -> int:
    """The least memory bound, by the error's own words."""
    with pytest.raises(MemoryBoundError, match=r"give at least memory_bytes=(\d+)") as caught:
        list(Reader(table, **options, memory_bytes=1))
    return int(str(caught.value).split("memory_bytes=")[2].split(",")[0])


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables as small as these are only sliced where pages and buffers are counted as smaller still."""
    monkeypatch.setattr(memory, "STREAM_BYTES", 256)
    monkeypatch.setattr(files, "STREAM_BUFFER", 16)
    monkeypatch.setattr(sources, "PAGE_BYTES", "")
    monkeypatch.setattr(sources, "PAGE_BYTES_DEFAULT", 16)


@pytest.fixture(params=SPECS)
def one_group(request: pytest.FixtureRequest, settings: Settings) -> Table:
    """60 requests in one file of one row group, seven of them deleted."""
    spec = SPECS[request.param]
    table = write_request_table(settings, spec, reference_requests(raw_log(spec), spec), files=1, row_group=60)
    paths = [task.file.file_path for task in table.scan().plan_files()]
    return delete_positions(table, {path: list(range(3, 60, 9)) for path in paths})


@pytest.mark.usefixtures("small_pages")
@hypothesis_settings(deadline=None, max_examples=12, suppress_health_check=SAME_TABLE)
@given(data=st.data(), shuffle=st.booleans(), world=st.integers(1, 3), batch=st.integers(1, 20))
def test_slices_give_the_batches_of_a_larger_bound(
    one_group: Table, data: st.DataObject, shuffle: bool, world: int, batch: int
) -> None:
    rank = data.draw(st.integers(0, world - 1))
    options: dict[str, Any] = {"batch_requests": batch, "shuffle": shuffle, "window": 1, "rank": rank}
    options |= {"world_size": world}
    whole = Reader(one_group, **options)
    bound = data.draw(st.integers(low := least(one_group, **options), low * 3))
    cut = Reader(one_group, **options, memory_bytes=bound)
    batches = list(whole)
    for got, want in zip(cut, batches, strict=True):
        assert_batches_equal(got, want)
        assert got.origin is not None
        assert want.origin is not None
        assert got.origin.places() == want.origin.places()
    assert whole.stats.slices == 0
    assert bound > low or batch > 4 or cut.stats.slices > 1
    place = data.draw(st.integers(0, len(batches)))
    if place < len(batches):
        cut.load_state_dict(whole.state_dict(batches[place]))
        for got, want in zip(cut, batches[place + 1 :], strict=True):
            assert_batches_equal(got, want)
    assert not [t for t in threading.enumerate() if t.name.startswith("reqlake")]


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize("by", ["candidates", "tokens"])
def test_slices_keep_to_batches_by_candidates_and_tokens(
    one_group: Table, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MEASURED_BYTES", 64)
    options: dict[str, Any] = {f"batch_{by}": 40, "window": 1}
    for got, want in zip(
        Reader(one_group, **options, memory_bytes=least(one_group, **options)),
        Reader(one_group, **options),
        strict=True,
    ):
        assert_batches_equal(got, want)


@pytest.mark.usefixtures("small_pages")
def test_in_file_order_the_slices_share_one_pass(one_group: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    passes = []
    opened = DataFiles.opened
    monkeypatch.setattr(DataFiles, "opened", lambda self, *a, **k: passes.append(a[0]) or opened(self, *a, **k))
    options: dict[str, Any] = {"batch_requests": 5, "shuffle": False}
    reader = Reader(one_group, **options, memory_bytes=least(one_group, **options))
    assert sum(b.R for b in reader) == reader.plan.requests
    assert reader.stats.slices > 3
    assert len(passes) == len(set(passes))  # one for each file


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_group_of_several_times_the_bound_stays_within_it(settings: Settings, shuffle: bool) -> None:
    shape = Shape(requests=1536, fanout=4)
    table = request_table(settings, "long", shape, row_group=1536, buckets=1, page_bytes=1 << 20)
    reader = Reader(table, batch_requests=32, shuffle=shuffle, memory_bytes=15 << 20)
    assert reader.plan.units[0].decoded_bytes > 2 * reader.memory_bytes

    def drain() -> None:
        assert sum(batch.R for batch in reader) == 1536

    assert peak_memory(drain) < 1.1 * reader.memory_bytes
    assert reader.stats.slices > 3
