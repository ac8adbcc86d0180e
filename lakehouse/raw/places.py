"""Where raw files lie: local paths and `s3://bucket/key`, found by paths, folders and patterns.

Names that begin with `_` or `.` or end with `.tmp` are passed over: half-written, or not the log's.
"""

from __future__ import annotations

import glob
import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlparse

from pyarrow import fs

from lakehouse.errors import RawDataError
from lakehouse.settings import S3Settings

S3 = ("s3", "s3a", "s3n")


@dataclass(frozen=True)
class Place:
    """A file: a local path or `s3://bucket/key`, its bytes, and on S3 the server's digest of them."""

    path: str
    size: int
    etag: str | None = None

    @property
    def name(self) -> str:
        """The file's own name."""
        return self.path.rsplit("/", 1)[-1]

    @property
    def uri(self) -> str:
        """The place as a URI."""
        return self.path if on_s3(self.path) else Path(self.path).as_uri()


def on_s3(path: str) -> bool:
    """Whether a place lies on S3."""
    return path.startswith("s3://")


def s3_options(s3: S3Settings | None) -> dict[str, Any]:
    """What PyArrow's S3FileSystem wants to be told; without settings the AWS environment decides."""
    if s3 is None:
        return {}
    # PyArrow's default request timeout of 3 s fails large row groups on a busy server.
    options: dict[str, Any] = {"region": s3.region, "request_timeout": 60.0, "connect_timeout": 10.0}
    if s3.endpoint:
        options |= {"endpoint_override": s3.endpoint, "force_virtual_addressing": not s3.path_style}
    if s3.access_key and s3.secret_key:
        options |= {"access_key": s3.access_key, "secret_key": s3.secret_key.get_secret_value()}
    return options


def find_places(name: str, s3: S3Settings | None = None) -> Iterator[Place]:
    """The files that one path, folder or pattern names. Raises RawDataError: nothing there, unreadable, no such scheme.

    A file that is named itself is taken whatever it is called.
    """
    url = urlparse(name)
    if url.scheme in S3:
        with reading(name):
            yield from _on_s3(f"s3://{name.split('://', 1)[1]}", s3)
        return
    if url.scheme == "file":
        name = unquote(url.path)
    elif len(url.scheme) > 1:
        raise RawDataError(f"raw logs are read from local paths and s3://…, {name} is neither: mount it or copy it")
    for path in _on_disk(name):
        with reading(str(path)):
            yield Place(str(path), path.stat().st_size)


def is_folder(name: str, s3: S3Settings | None = None) -> bool:
    """Whether a name without wildcards is a folder (on S3: anything but an object's key)."""
    url = urlparse(name)
    if url.scheme in S3:
        with reading(name):
            return bool(_system(s3).get_file_info(name.split("://", 1)[1].rstrip("/")).type != fs.FileType.File)
    return Path(unquote(url.path) if url.scheme == "file" else name).is_dir()


def open_place(place: Place, s3: S3Settings | None = None) -> Any:
    """The file for reading at any offset: a PyArrow file."""
    if on_s3(place.path):
        return _system(s3).open_input_file(place.path.removeprefix("s3://"))
    return fs.LocalFileSystem().open_input_file(place.path)


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Turn what a file system raises into a RawDataError that names the path and the remedy."""
    try:
        yield
    except OSError as error:
        remedy = "check the s3 settings (endpoint, region, keys) and the bucket" if on_s3(path) else "its permissions?"
        raise RawDataError(f"cannot read {path} ({error.strerror or error}): {remedy}") from error


def _on_disk(name: str) -> Iterator[Path]:
    if glob.has_magic(name):
        plain = Path(*itertools.takewhile(lambda part: not glob.has_magic(part), Path(name).parts))
        matches = [Path(p) for p in glob.glob(name, recursive=True)]  # noqa: PTH207
        found: Iterator[Path] = (match for match in matches if not passed_over(match.relative_to(plain).parts))
    else:
        found = iter([Path(name)])
    for path in found:
        if path.is_dir():
            inside = (p for p in path.rglob("*") if p.is_file())
            yield from (p.resolve() for p in inside if not passed_over(p.relative_to(path).parts))
        elif path.exists():
            yield path.resolve()
        else:
            raise RawDataError(f"no raw file {path}: check the path")


def _on_s3(name: str, s3: S3Settings | None) -> Iterator[Place]:
    system, key = _system(s3), name.removeprefix("s3://").rstrip("/")
    plain, pattern = fixed_part(key)
    if not glob.has_magic(key):
        info = system.get_file_info(key)
        if info.type == fs.FileType.File:
            yield _place(system, info)
            return
    selector = fs.FileSelector(plain, recursive=True, allow_not_found=True)
    found = [info for info in system.get_file_info(selector) if info.type == fs.FileType.File and info.size is not None]
    if not found and not glob.has_magic(key):
        raise RawDataError(f"no raw file {name}: check the bucket and the key")
    with ThreadPoolExecutor(16) as pool:  # a request each
        yield from pool.map(partial(_place, system), [info for info in found if belongs(info.path, plain, pattern)])


def _place(system: fs.FileSystem, info: fs.FileInfo) -> Place:
    with system.open_input_stream(info.path) as stream:
        told = {str(key).lower(): value for key, value in (stream.metadata() or {}).items()}
    etag = told.get("etag")
    if etag is None:
        raise RawDataError(f"s3://{info.path} has no ETag, by which a file is told from others: copy it to a disk")
    text = etag.decode() if isinstance(etag, bytes) else str(etag)
    return Place(f"s3://{info.path}", info.size, text.strip('"'))


def fixed_part(name: str) -> tuple[str, tuple[str, ...]]:
    """The part of a path before its first wildcard, and the pattern below it; without one, all that lies there."""
    parts = PurePosixPath(name).parts
    fixed = tuple(itertools.takewhile(lambda part: not glob.has_magic(part), parts))
    return str(PurePosixPath(*fixed)), parts[len(fixed) :] or ("**",)


def belongs(path: str, fixed: str, pattern: tuple[str, ...]) -> bool:
    """Whether a pattern means a file below its fixed part; a folder that it means holds files that it means."""
    inside = PurePosixPath(path.removeprefix(fixed).lstrip("/")).parts
    folders = range(1, len(inside) + 1)
    return not passed_over(inside) and any(_matches(inside[:n], pattern) for n in folders)


def _matches(parts: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Whether the parts of a path fit a pattern's; `**` stands for any number of them."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_matches(parts[n:], pattern[1:]) for n in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


def passed_over(parts: tuple[str, ...]) -> bool:
    """Whether a path below a folder or a pattern's fixed part is not the log's, or not finished."""
    return any(part.startswith(("_", ".")) for part in parts) or parts[-1].endswith(".tmp")


def _system(s3: S3Settings | None) -> fs.FileSystem:
    return fs.S3FileSystem(**s3_options(s3))
