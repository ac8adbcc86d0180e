"""A disk cache for remote tables: the row groups of a fixed share, chosen by hash, as they lie in their files.

An epoch reads everything once, in a new order, so that a cache that drops the least recently used would drop each entry
before it is asked for again. Here the units with the lowest hashes are kept, as many as the limit holds, and no other:
nothing is ever dropped to make room, and in every epoch after the first the hits are the share that is kept.

An entry is written under another name and renamed when it is whole; its first bytes are a hash of the rest. So any
number of processes may share a folder, be killed at any time, and see a damaged entry for what it is.
"""

from __future__ import annotations

import fcntl
import io
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import xxhash

from feature_reader.errors import ReaderError
from feature_reader.stats import ReaderStats

BLOCK = 8 << 20  # read from the remote file at once
DIGEST = 16
LEFTOVER_S = 3600  # an unfinished entry as old as this is nobody's any more
RECOUNT = 64  # entries written between two looks at what the folder holds
Ranges = Sequence[tuple[int, int]]
"""(offset, length) of parts of a file, ascending."""


@dataclass(frozen=True)
class DiskCache:
    """A folder for a reader's cache, and the most bytes that it may hold. Give it to one table's readers.

    Readers of the same table, snapshot and columns share its entries, also from several processes.
    """

    folder: Path | str
    limit_bytes: int

    def __post_init__(self) -> None:
        if self.limit_bytes < 1:
            raise ReaderError(f"limit_bytes={self.limit_bytes}: give at least 1")


@dataclass(frozen=True)
class Entry:
    """What an entry is called, and the bytes that it takes."""

    name: str
    bytes: int


def entry_of(path: str, row_group: int, ranges: Ranges) -> Entry:
    """The entry for these parts of a row group. Iceberg never writes another file under the same path."""
    name = xxhash.xxh3_128_hexdigest(f"{path}\n{row_group}\n{ranges}".encode())
    return Entry(name, DIGEST + sum(length for _, length in ranges))


class KeptEntries:
    """The part of a cache that belongs to one plan. Safe between threads."""

    def __init__(self, cache: DiskCache, entries: Iterable[Entry], stats: ReaderStats) -> None:
        self._cache, self._stats = cache, stats
        self._folder = Path(cache.folder)
        self._lock = threading.Lock()
        self._used = self._since = 0
        self._chosen: set[str] = set()
        room = cache.limit_bytes
        for entry in sorted(set(entries), key=lambda e: e.name):  # names are hashes
            if entry.bytes > room:
                break
            room -= entry.bytes
            self._chosen.add(entry.name)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._make_room(cache.limit_bytes - room)
        except OSError as error:
            raise ReaderError(f"the cache folder {self._folder} cannot be used: {error}") from error

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    def holds(self, entry: Entry) -> bool:
        """Whether the entry is one of those that are kept, there already or not."""
        return entry.name in self._chosen

    @contextmanager
    def open(self, entry: Entry, ranges: Ranges, remote: Callable[[], Any]) -> Iterator[PartsOfFile | None]:
        """The parts as one file, brought from `remote` if they are not there; None where they cannot be kept.

        `remote` opens the file that they are parts of. Raises what reading that raises.
        """
        found = self._find(entry)
        self._stats.add(cache_hits=found is not None, cache_misses=found is None)
        if found is None and self._has_room(entry):
            found = self._bring(entry, ranges, remote)
        if found is None:
            yield None
            return
        with found:
            yield PartsOfFile(found.read_buffer()[DIGEST:], ranges)

    def refuse(self, entry: Entry) -> None:
        """Keep this entry no longer: reading from it failed."""
        self._chosen.discard(entry.name)
        self._path(entry.name).unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self._folder / name[:2] / name

    def _find(self, entry: Entry) -> pa.MemoryMappedFile | None:
        path = self._path(entry.name)
        try:
            found = pa.memory_map(str(path))
        except OSError:
            return None
        content = found.read_buffer()
        found.seek(0)
        whole = len(content) == entry.bytes
        if whole and xxhash.xxh3_128_digest(memoryview(content)[DIGEST:]) == content[:DIGEST].to_pybytes():
            return found
        found.close()
        self._stats.add(cache_damaged=1)
        path.unlink(missing_ok=True)
        return None

    def _bring(self, entry: Entry, ranges: Ranges, remote: Callable[[], Any]) -> pa.MemoryMappedFile | None:
        path = self._path(entry.name)
        part = path.with_name(f"{entry.name}.{uuid.uuid4().hex}.part")
        try:
            path.parent.mkdir(exist_ok=True)
            sink = part.open("wb")
        except OSError:
            return None
        try:
            with remote() as source:
                if not _written(sink, _blocks(source, ranges)):
                    return None
            part.replace(path)
        finally:
            with suppress(OSError):
                sink.close()
            part.unlink(missing_ok=True)
        self._stats.add(cache_written_bytes=entry.bytes)
        with self._lock:
            self._used += entry.bytes
        return pa.memory_map(str(path))

    # ---- the limit ------------------------------------------------------------------------------------------------

    def _has_room(self, entry: Entry) -> bool:
        """Whether the folder may take the entry: plans of other tables may have filled it."""
        with self._lock:
            self._since += 1
            if self._since >= RECOUNT:
                self._since, self._used = 0, sum(size for _, _, size in self._entries())
            return self._used + entry.bytes <= self._cache.limit_bytes

    def _make_room(self, reserved: int) -> None:
        """Remove what other plans left, oldest first, until what is chosen fits; and what the killed left."""
        with (self._folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            strangers = [e for e in self._entries() if e[1].name not in self._chosen]
            excess = reserved + sum(size for _, _, size in strangers) - self._cache.limit_bytes
            for _, path, size in sorted(strangers):
                if excess <= 0:
                    break
                path.unlink(missing_ok=True)
                excess -= size
        self._used = sum(size for _, _, size in self._entries())

    def _entries(self) -> list[tuple[float, Path, int]]:
        """Last change, path and bytes of everything in the folder; unfinished entries of long ago are removed."""
        found = []
        for path in self._folder.glob("*/*"):
            try:
                stat = path.stat()
                if path.suffix == ".part" and time.time() - stat.st_mtime > LEFTOVER_S:
                    path.unlink()
                    continue
            except FileNotFoundError:
                continue  # another process removed or renamed it
            found.append((stat.st_mtime, path, stat.st_size))
        return found


def _blocks(source: Any, ranges: Ranges) -> Iterator[bytes]:
    for offset, length in ranges:
        for start in range(offset, offset + length, BLOCK):
            size = min(BLOCK, offset + length - start)
            block: bytes = source.read_at(size, start)
            if len(block) != size:
                raise OSError(f"{size} bytes were asked for at {start}, {len(block)} came")
            yield block


def _written(sink: io.BufferedWriter, blocks: Iterator[bytes]) -> bool:
    """Write an entry; False where the disk does not take it."""
    digest = xxhash.xxh3_128()
    head = bytes(DIGEST)
    for block in blocks:
        digest.update(block)
        try:
            sink.write(head + block)
        except OSError:
            return False
        head = b""
    try:
        sink.seek(0)
        sink.write(digest.digest())
        sink.close()
    except OSError:
        return False
    return True


class PartsOfFile(io.RawIOBase):
    """A file of which only some parts can be read, each at its own offset; reading beside them is an OSError."""

    def __init__(self, content: pa.Buffer, ranges: Ranges) -> None:
        self._content, self._ranges, self._at = content, ranges, 0
        self._size = max((offset + length for offset, length in ranges), default=0)

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """Offset of the next byte."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to an offset, from the file's start, here, or the end of its last part."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def read(self, size: int = -1) -> Any:
        """The next bytes, as a view of the entry."""
        at, before = self._at, 0
        for offset, length in self._ranges:
            if offset <= at < offset + length:
                size = offset + length - at if size < 0 else min(size, offset + length - at)
                self._at += size
                return memoryview(self._content.slice(before + at - offset, size))
            before += length
        raise OSError(f"offset {at} is not among the {len(self._ranges)} parts that are kept")
