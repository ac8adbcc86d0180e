"""Fifty epochs leave what one does: no thread, no open file, no memory."""

from __future__ import annotations

import gc
import sys
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.table import Table

from feature_reader import DataFileError, DiskCache, Reader, files, memory, plan, sources
from lakehouse.catalog import local_path
from lakehouse.settings import Settings
from tests.support.datasets import SPECS, raw_log, reference_requests, write_request_table

pytestmark = pytest.mark.timeout(120)
SPEC = SPECS["video"]
EPOCHS = 50


@pytest.fixture
def video(settings: Settings) -> Table:
    return write_request_table(settings, SPEC, reference_requests(raw_log(SPEC), SPEC), files=2, row_group=7)


def held() -> tuple[int, int, int]:
    """Threads of the reader, open files, and bytes of Arrow."""
    gc.collect()
    threads = sum(t.name.startswith("reqlake") for t in threading.enumerate())
    return threads, sum(1 for _ in Path("/proc/self/fd").iterdir()), pa.total_allocated_bytes()


def epoch(reader: Reader) -> None:
    """An epoch that is begun, left, gone on with after an error of the loop, and ended."""
    for _ in reader:
        break
    with pytest.raises(ZeroDivisionError):
        fail(reader)
    for _ in reader:
        pass


def fail(reader: Reader) -> None:
    for _ in reader:
        raise ZeroDivisionError


@pytest.mark.parametrize("way", ["whole", "slices", "disk cache", "damaged file"])
def test_fifty_epochs_leave_what_one_does(
    video: Table, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"batch_requests": 9, "window": 3, "columns": ["item_id", "watched_clip"]}
    if way == "slices":
        monkeypatch.setattr(memory, "STREAM_BYTES", 64)
        monkeypatch.setattr(files, "STREAM_BUFFER", 8)
        monkeypatch.setattr(sources, "PAGE_BYTES", "")
        monkeypatch.setattr(sources, "PAGE_BYTES_DEFAULT", 8)
        options |= {"batch_requests": 2, "window": 1, "memory_bytes": 3000}
    if way == "disk cache":
        for module in (plan, files):
            monkeypatch.setattr(module, "is_local", lambda _: False)
        options["cache"] = DiskCache(tmp_path / "cache", 30_000)
    reader = Reader(video, **options)
    if way == "damaged file":
        assert reader.plan
        path = local_path(reader.plan.files[0])
        path.write_bytes(bytes(len(path.read_bytes())))

        def one() -> None:
            reader.epoch = 0
            with pytest.raises(DataFileError):
                list(reader)
    else:

        def one() -> None:
            epoch(reader)

    for _ in range(10):
        one()
    before, blocks = held(), sys.getallocatedblocks()
    for _ in range(EPOCHS):
        one()
    assert before[0] == 0
    assert held() == before
    assert sys.getallocatedblocks() - blocks < 20 * EPOCHS
    assert (reader.stats.slices > 0) == (way == "slices")
    assert (reader.stats.cache_hits > 0) == (way == "disk cache")
