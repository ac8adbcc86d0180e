"""The disk cache keeps a fixed share, hits it in every later epoch, and stands kill -9, damage and a full disk."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pyiceberg.table import Table

from feature_reader import DiskCache, Reader, ReaderError, ReaderStats, cache, files, plan
from feature_reader.cache import DIGEST, Entry, KeptEntries, Ranges, entry_of
from feature_reader.testing import assert_batches_equal
from lakehouse.settings import Settings
from tests.support.datasets import SPECS, raw_log, reference_requests, write_request_table

pytestmark = pytest.mark.timeout(120)
SPEC = SPECS["video"]
CONTENT = bytes(i % 251 for i in range(50_000))
RANGES = [(100, 4000), (9000, 1), (20_000, 3000)]


class Remote:
    """A remote file that counts how often it is opened."""

    def __init__(self, content: bytes = CONTENT) -> None:
        self.content, self.opened = content, 0

    def __call__(self) -> pa.BufferReader:
        self.opened += 1
        return pa.BufferReader(self.content)


def kept(folder: Path, entries: list[Entry], limit: int = 1 << 20) -> KeptEntries:
    return KeptEntries(DiskCache(folder, limit), entries, ReaderStats())


def read(of: KeptEntries, entry: Entry, remote: Remote, ranges: Ranges = RANGES) -> list[bytes] | None:
    """Each of the parts, through the cache."""
    with of.open(entry, ranges, remote) as parts:
        if parts is None:
            return None
        found = []
        for offset, length in ranges:
            parts.seek(offset)
            found.append(bytes(parts.read(length)))
        return found


PARTS = [CONTENT[offset : offset + length] for offset, length in RANGES]


def test_parts_are_brought_once_and_found_by_any_process(tmp_path: Path) -> None:
    entry, remote = entry_of("s3://b/x.parquet", 3, RANGES), Remote()
    one = kept(tmp_path, [entry])
    assert [read(one, entry, remote) for _ in range(3)] == [PARTS] * 3
    assert read(kept(tmp_path, [entry]), entry, remote) == PARTS
    assert remote.opened == 1
    assert (one._stats.cache_misses, one._stats.cache_hits) == (1, 2)
    assert entry.bytes == DIGEST + 7001
    assert entry_of("s3://b/x.parquet", 4, RANGES) != entry != entry_of("s3://b/x.parquet", 3, RANGES[:2])
    with one.open(entry, RANGES, remote) as parts:
        assert parts is not None
        parts.seek(50)
        with pytest.raises(OSError, match="offset 50 is not among the 3 parts"):
            parts.read(10)


@pytest.mark.parametrize("harm", ["cut", "flipped", "empty"])
def test_a_damaged_entry_is_read_again(tmp_path: Path, harm: str) -> None:
    entry, remote = entry_of("s3://b/x.parquet", 0, RANGES), Remote()
    of = kept(tmp_path, [entry])
    read(of, entry, remote)
    path = of._path(entry.name)
    data = bytearray(path.read_bytes())
    data[2000] ^= 1
    path.write_bytes({"cut": bytes(data[:-5]), "flipped": bytes(data), "empty": b""}[harm])
    assert read(of, entry, remote) == PARTS
    assert (of._stats.cache_damaged, remote.opened) == (1, 2)
    assert read(of, entry, remote) == PARTS
    assert remote.opened == 2


@hypothesis_settings(deadline=None, max_examples=50)
@given(sizes=st.lists(st.integers(1, 100), max_size=30), limit=st.integers(1, 2000))
def test_what_is_kept_fits_the_limit_and_follows_from_names_alone(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], limit: int
) -> None:
    entries = [Entry(f"{i * 7919 % 1000:032x}", size) for i, size in enumerate(sizes)]
    folder = tmp_path_factory.mktemp("cache")
    chosen = [e for e in entries if kept(folder, entries, limit).holds(e)]
    assert sum(e.bytes for e in chosen) <= limit
    assert {e for e in entries if kept(folder, entries[::-1], limit).holds(e)} == set(chosen)
    left = [e for e in entries if e not in chosen]
    assert not left or sum(e.bytes for e in chosen) + min(left, key=lambda e: e.name).bytes > limit


def test_other_plans_make_room_oldest_first(tmp_path: Path) -> None:
    old, new = ([entry_of(f"s3://b/{plan}-{i}", 0, [(0, 1000)]) for i in range(5)] for plan in ("old", "new"))
    first, remote = kept(tmp_path, old, 5 * old[0].bytes), Remote()
    for at, entry in enumerate(old):
        read(first, entry, remote, [(0, 1000)])
        os.utime(first._path(entry.name), (at, at))
    leftover = tmp_path / "ab" / "x.part"
    leftover.parent.mkdir(exist_ok=True)
    leftover.write_bytes(b"of a process that was killed")
    os.utime(leftover, (1, 1))
    second = kept(tmp_path, new[:2], 5 * old[0].bytes)
    assert [first._path(e.name).exists() for e in old] == [False, False, True, True, True]
    assert not leftover.exists()
    for entry in new[:2]:
        read(second, entry, remote, [(0, 1000)])
    assert sum(p.stat().st_size for p in tmp_path.glob("*/*")) <= 5 * old[0].bytes


def test_a_folder_that_others_filled_takes_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "RECOUNT", 1)
    entry, remote = entry_of("s3://b/x", 0, RANGES), Remote()
    of = kept(tmp_path, [entry], 10_000)
    (tmp_path / "ff").mkdir()
    (tmp_path / "ff" / "stranger").write_bytes(bytes(5000))
    assert read(of, entry, remote) is None
    assert remote.opened == 0


def test_a_disk_that_takes_nothing_only_costs_the_cache(tmp_path: Path) -> None:
    entry, remote = entry_of("s3://b/x", 0, RANGES), Remote()
    of = kept(tmp_path / "cache", [entry])
    (tmp_path / "cache" / entry.name[:2]).write_bytes(b"a file where a folder should be")
    assert read(of, entry, remote) is None
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ReaderError, match=r"the cache folder .*file cannot be used"):
        kept(tmp_path / "file", [entry])
    with pytest.raises(ReaderError, match="limit_bytes=0"):
        DiskCache(tmp_path, 0)


def test_an_error_of_the_remote_file_is_raised_and_leaves_nothing(tmp_path: Path) -> None:
    entry = entry_of("s3://b/x", 0, RANGES)
    of = kept(tmp_path, [entry])
    with pytest.raises(OSError, match="Read out of bounds"):
        read(of, entry, Remote(CONTENT[:10_000]))
    assert not list(tmp_path.glob("*/*"))
    assert read(of, entry, Remote()) == PARTS


def write_for_ever(folder: Path, entries: list[Entry]) -> None:
    """Bring entries again and again, until the process is killed."""
    while True:
        for entry in entries:
            with kept(folder, entries).open(entry, [(0, 50_000)], Remote()):
                pass
            KeptEntries(DiskCache(folder, 1 << 20), entries, ReaderStats()).refuse(entry)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")
def test_processes_that_are_killed_at_any_time_leave_whole_entries(tmp_path: Path) -> None:
    entries = [entry_of(f"s3://b/{i}", 0, [(0, 50_000)]) for i in range(4)]
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=write_for_ever, args=(tmp_path, entries)) for _ in range(2)]
    for process in processes:
        process.start()
    of, seen = kept(tmp_path, entries), 0
    while seen < 200:
        for entry in entries:
            found = of._find(entry)
            if found is not None:
                seen += 1
                assert found.read_buffer()[DIGEST:].to_pybytes() == CONTENT
                found.close()
    for process in processes:
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
    assert of._stats.cache_damaged == 0
    assert [read(of, e, Remote(), [(0, 50_000)]) for e in entries] == [[CONTENT]] * 4


# ---- through the reader: local files that it takes for remote ones --------------------------------------------------


@pytest.fixture
def video(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Table]:
    table = write_request_table(settings, SPEC, reference_requests(raw_log(SPEC), SPEC), files=2, row_group=7)
    for module in (plan, files):
        monkeypatch.setattr(module, "is_local", lambda _: False)
    yield table
    assert not [t for t in threading.enumerate() if t.name.startswith("reqlake")]


@pytest.mark.parametrize("options", [{}, {"shuffle": False}, {"columns": ["watched_clip", "item_id", "words"]}])
def test_epochs_from_the_cache_are_those_without_it(video: Table, tmp_path: Path, options: dict[str, Any]) -> None:
    plain = Reader(video, batch_requests=7, window=3, **options)
    cached = Reader(video, batch_requests=7, window=3, **options, cache=DiskCache(tmp_path / "cache", 1 << 30))
    for _ in range(2):
        for got, want in zip(cached, plain, strict=True):
            assert_batches_equal(got, want)
    units = len(plain.plan.units)
    assert (cached.stats.cache_misses, cached.stats.cache_hits) == (units, units)
    for path in (tmp_path / "cache").glob("*/*"):
        path.write_bytes(path.read_bytes()[:-1])
    for got, want in zip(cached, plain, strict=True):
        assert_batches_equal(got, want)
    assert cached.stats.cache_damaged == units


def test_a_reader_goes_to_a_worker_process_with_its_cache(video: Table, tmp_path: Path) -> None:
    reader = Reader(video, batch_requests=7, cache=DiskCache(tmp_path / "cache", 1 << 30))
    batches = list(reader)
    reader.epoch = 0
    other = pickle.loads(pickle.dumps(reader))
    for got, want in zip(other, batches, strict=True):
        assert_batches_equal(got, want)
    assert other.stats.cache_hits == len(reader.plan.units)


def test_the_hits_are_the_share_that_is_kept(video: Table, tmp_path: Path) -> None:
    everything = Reader(video, cache=DiskCache(tmp_path / "all", 1 << 30))
    list(everything)
    limit = everything.stats.cache_written_bytes // 2
    half = Reader(video, cache=DiskCache(tmp_path / "half", limit))
    for _ in range(4):
        assert sum(b.R for b in half) == 60
    units = len(half.plan.units)
    chosen = half.stats.cache_misses
    assert 0.3 * units < chosen < 0.7 * units
    assert half.stats.cache_hits == 3 * chosen
    assert half.stats.cache_written_bytes == sum(p.stat().st_size for p in (tmp_path / "half").glob("*/*")) <= limit
