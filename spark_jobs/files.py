"""Raw files: found, looked at, and told apart.

Footers are read by PyArrow before Spark sees a file, so that what cannot be ingested is refused by name. A file's
identity is its size and content, never its path or time: a batch that was moved is the same batch. On S3 the server's
ETag stands for the content, so that nothing is read to tell a known file.
"""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from lakehouse.errors import RawDataError
from lakehouse.raw.formats import Format, NotWholeError, look
from lakehouse.raw.partitions import Values, partition_of
from lakehouse.raw.places import Place, find_places, is_folder, on_s3, reading
from lakehouse.settings import S3Settings


class HasMember(Protocol):
    """What a batch is made of: raw files, or snapshots of a table."""

    @property
    def member(self) -> str:
        """Its identity in the ledger."""
        ...


@dataclass(frozen=True)
class RawFile:
    """One raw file: where it lies (a local path or `s3://…`), how long it is, its content's digest, rows and schema.

    `groups` are the rows of each part that is decoded by itself (Parquet's row groups), `partition` the values of the
    Hive folders right above it.
    """

    path: str
    size: int
    digest: str
    rows: int
    schema: pa.Schema
    format: Format = "parquet"
    groups: tuple[int, ...] = ()
    partition: Values = ()

    @property
    def member(self) -> str:
        """The file's identity in the ledger: size and digest."""
        return f"{self.size}:{self.digest}"

    @property
    def name(self) -> str:
        """The file's own name."""
        return self.path.rsplit("/", 1)[-1]

    @property
    def uri(self) -> str:
        """Where it lies, as a URI."""
        return Place(self.path, self.size).uri


def find_ready(paths: Iterable[str | Path], s3: S3Settings | None = None) -> tuple[list[RawFile], list[str]]:
    """The whole files that paths name, and those of folders and globs that wait because they are not whole yet.

    Raises RawDataError as `find_files` does: a file that is named itself has to be whole, and one of all has to be.
    """
    names = [str(p) for p in paths]
    named = {
        place
        for name in names
        if not glob.has_magic(name) and not is_folder(name, s3)
        for place in find_places(name, s3)
    }
    found = _sorted(named.union(*(find_places(name, s3) for name in names)))
    with ThreadPoolExecutor(8) as pool:
        looked = list(pool.map(partial(_look_or_tell, s3=s3), found))
    waiting = [place for place, seen in zip(found, looked, strict=True) if isinstance(seen, NotWholeError)]
    if not found or any(place in named for place in waiting) or len(waiting) == len(found):
        return find_files(names, s3), []
    files = [seen for seen in looked if isinstance(seen, RawFile)]
    if not any(f.rows for f in files):
        return find_files([f.path for f in files], s3), []
    return files, [place.path for place in waiting]


def find_files(paths: Iterable[str | Path], s3: S3Settings | None = None) -> list[RawFile]:
    """The raw files that paths, folders and globs name, looked at; `_*`, `.*` and `*.tmp` are passed over.

    Raises RawDataError: nothing there, an empty or truncated file, no rows at all.
    """
    names = [str(p) for p in paths]
    found = _sorted({place for name in names for place in find_places(name, s3)})
    if not found:
        raise RawDataError(
            f"no raw files under {', '.join(names) or 'no path'}: give Parquet, ORC or Avro files, folders or globs"
        )
    with ThreadPoolExecutor(8) as pool:
        files = list(pool.map(partial(_look, s3=s3), found))
    if not any(f.rows for f in files):
        raise RawDataError(f"no rows at all in {len(files)} file{'s' * (len(files) > 1)} under {', '.join(names)}")
    return files


def sort_out(paths: Iterable[str], s3: S3Settings | None = None) -> tuple[list[str], list[str]]:
    """Files that hold rows, and those that are not whole yet, of paths that were found there. Raises RawDataError."""
    found = _sorted({place for path in paths for place in find_places(path, s3)})
    with ThreadPoolExecutor(8) as pool:
        looked = list(pool.map(partial(_look_or_tell, s3=s3), found))
    waiting = [place.path for place, seen in zip(found, looked, strict=True) if isinstance(seen, NotWholeError)]
    return [seen.path for seen in looked if isinstance(seen, RawFile) and seen.rows], waiting


def batch_id_of(members: Iterable[HasMember]) -> str:
    """The batch's name where none is given: a hash of its members, in any order, wherever they lie."""
    text = "\n".join(sorted(one.member for one in members))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _sorted(places: Iterable[Place]) -> list[Place]:
    return sorted(places, key=lambda place: place.path.split("/"))


def _look_or_tell(place: Place, s3: S3Settings | None) -> RawFile | NotWholeError:
    try:
        return _look(place, s3)
    except NotWholeError as error:
        return error


def _look(place: Place, s3: S3Settings | None) -> RawFile:
    content = look(place, s3)
    digest = place.etag
    if digest is None:
        with reading(place.path), Path(place.path).open("rb") as data:
            digest = hashlib.file_digest(data, "sha256").hexdigest()
    values = partition_of(place.path.removeprefix("s3://") if on_s3(place.path) else place.path)[1]
    return RawFile(place.path, place.size, digest, content.rows, content.schema, content.format, content.groups, values)
