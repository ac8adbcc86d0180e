"""A table's files: those that its metadata references, and those that lie in its folder.

Paths are compared without their scheme: `file:///x`, `file:/x` and `/x` are one place.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pyarrow.fs import FileSelector, FileType
from pyiceberg.io import FileIO
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

THREADS = 8


@dataclass(frozen=True)
class StoredFile:
    """One file as the storage lists it."""

    path: str
    size: int
    modified: datetime


def bare(path: str) -> str:
    """A path without its scheme: `/x`, or `bucket/key`; one that is bare already stays as it is."""
    if "://" not in path and not path.startswith(("/", "file:")):
        return path
    scheme, netloc, rest = PyArrowFileIO.parse_location(path)
    return rest if scheme == "file" else rest if rest.startswith(f"{netloc}/") else f"{netloc}{rest}"


def addressed(where: str, path: str) -> str:
    """A path without its scheme, as one that a file system below `where` opens."""
    scheme = PyArrowFileIO.parse_location(where)[0]
    return path if scheme == "file" else f"{scheme}://{path}"


def checksum_of(path: str) -> str:
    """Where Hadoop's local file system keeps a file's checksum: `.name.crc` beside it."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/.{name}.crc"


def owner(path: str) -> str:
    """The file that a checksum belongs to; any other file is its own."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/{name[1:-4]}" if name.startswith(".") and name.endswith(".crc") else path


def referenced_by(table: Table, snapshots: Iterable[Snapshot]) -> set[str]:
    """Manifest lists, manifests, data and delete files of snapshots."""
    found: set[str] = set()
    manifests: dict[str, Any] = {}
    for snapshot in snapshots:
        found.add(bare(snapshot.manifest_list))
        manifests |= {m.manifest_path: m for m in snapshot.manifests(table.io)}
    with ThreadPoolExecutor(THREADS) as pool:
        for paths in pool.map(lambda m: _entries(table, m), manifests.values()):
            found |= paths
    return found | {bare(path) for path in manifests}


def _entries(table: Table, manifest: Any) -> set[str]:
    entries = manifest.fetch_manifest_entry(table.io, discard_deleted=True)
    return {bare(entry.data_file.file_path) for entry in entries}


def referenced(table: Table) -> set[str]:
    """Every file that live metadata references: of all snapshots, the metadata files, and statistics."""
    found = referenced_by(table, table.metadata.snapshots)
    found.add(bare(table.metadata_location))
    found |= {bare(entry.metadata_file) for entry in table.metadata.metadata_log}
    found |= {bare(s.statistics_path) for s in table.metadata.statistics}
    return found | {bare(s.statistics_path) for s in table.metadata.partition_statistics}


def stored(io: FileIO, location: str) -> Iterator[StoredFile]:
    """Every file below a location."""
    scheme, netloc, path = PyArrowFileIO.parse_location(location)
    files = _filesystem(io, scheme, netloc)
    selector = FileSelector(path.rstrip("/"), allow_not_found=True, recursive=True)
    for info in files.get_file_info(selector):
        if info.type == FileType.File:
            modified = info.mtime if info.mtime is not None else datetime.now(UTC)
            yield StoredFile(info.path, info.size or 0, modified.astimezone(UTC))


def now_at(io: FileIO, location: str) -> datetime:
    """What time it is by the storage's clock: that of a file that is written there, and removed."""
    probe = f"{location}/metadata/clock-{uuid.uuid4().hex}"
    with io.new_output(probe).create() as file:
        file.write(b"?")
    scheme, netloc, path = PyArrowFileIO.parse_location(probe)
    written = _filesystem(io, scheme, netloc).get_file_info(path).mtime
    io.delete(probe)
    assert written is not None, f"{location} tells no times"
    return datetime.fromtimestamp(written.timestamp(), UTC)


def remove(io: FileIO, location: str, paths: Iterable[str]) -> int:
    """Remove files below a location, given without scheme; how many were there. A file that is gone is no error."""
    scheme, netloc, _ = PyArrowFileIO.parse_location(location)
    files, paths = _filesystem(io, scheme, netloc), list(paths)

    def one(path: str) -> int:
        try:
            files.delete_file(path)
        except FileNotFoundError:
            return 0
        return 1

    if scheme == "file":  # Hadoop's checksums go first, or they would lie there without their file
        for path in paths:
            one(checksum_of(path))

    with ThreadPoolExecutor(THREADS) as pool:
        return sum(pool.map(one, sorted(paths)))


def _filesystem(io: FileIO, scheme: str, netloc: str) -> Any:
    assert isinstance(io, PyArrowFileIO), f"files are listed through PyArrow, not {type(io).__name__}"
    return io.fs_by_scheme(scheme, netloc)
