"""Raw files: found, looked at, and told apart.

Footers are read by PyArrow before Spark sees a file, so that what cannot be ingested is refused by name. A file's
identity is its size and content, never its path or time: a batch that was moved is the same batch.
"""

from __future__ import annotations

import glob
import hashlib
import itertools
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlparse

import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.errors import RawDataError


@dataclass(frozen=True)
class RawFile:
    """One Parquet file: where it lies, how long it is, its content's digest, its rows and schema."""

    path: Path
    size: int
    digest: str
    rows: int
    schema: pa.Schema

    @property
    def member(self) -> str:
        """The file's identity in the ledger: size and digest."""
        return f"{self.size}:{self.digest}"


class NotWholeError(RawDataError):
    """A file that is empty or has no readable footer: damaged, or still being written."""


def find_ready(paths: Iterable[str | Path]) -> tuple[list[RawFile], list[Path]]:
    """The whole files that paths name, and those of folders and globs that wait because they are not whole yet.

    Raises RawDataError as `find_files` does: a file that is named itself has to be whole, and one of all has to be.
    """
    names = [str(p) for p in paths]
    named = {path for name in names if not glob.has_magic(name) for path in _expand(name) if not _is_folder(name)}
    found = sorted(named.union(*(_expand(name) for name in names)))
    with ThreadPoolExecutor(8) as pool:
        looked = list(pool.map(_look_or_tell, found))
    waiting = [path for path, seen in zip(found, looked, strict=True) if isinstance(seen, NotWholeError)]
    if not found or any(path in named for path in waiting) or len(waiting) == len(found):
        return find_files(names), []
    files = [seen for seen in looked if isinstance(seen, RawFile)]
    if not any(f.rows for f in files):
        return find_files(str(f.path) for f in files), []
    return files, waiting


def find_files(paths: Iterable[str | Path]) -> list[RawFile]:
    """The raw files that paths, folders and globs name, with footers read; `_*`, `.*` and `*.tmp` are passed over.

    Raises RawDataError: nothing there, an empty or truncated file, no rows at all.
    """
    names = [str(p) for p in paths]
    found = sorted({path for name in names for path in _expand(name)})
    if not found:
        raise RawDataError(f"no raw files under {', '.join(names) or 'no path'}: give Parquet files, folders or globs")
    with ThreadPoolExecutor(8) as pool:
        files = list(pool.map(_look, found))
    if not any(f.rows for f in files):
        raise RawDataError(f"no rows at all in {len(files)} file{'s' * (len(files) > 1)} under {', '.join(names)}")
    return files


def batch_id_of(files: Iterable[RawFile]) -> str:
    """The batch's name where none is given: a hash of its members, in any order, wherever they lie."""
    text = "\n".join(sorted(f.member for f in files))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _expand(name: str) -> Iterator[Path]:
    scheme = urlparse(name).scheme
    if scheme == "file":
        name = unquote(urlparse(name).path)
    elif len(scheme) > 1:
        raise RawDataError(f"raw logs are read from local paths, {name} is not one: mount it or copy it first")
    if glob.has_magic(name):
        plain = Path(*itertools.takewhile(lambda part: not glob.has_magic(part), Path(name).parts))
        matches = [Path(p) for p in glob.glob(name, recursive=True)]  # noqa: PTH207
        found: Iterator[Path] = (match for match in matches if not _passed_over(match.relative_to(plain).parts))
    else:
        found = iter([Path(name)])
    for path in found:
        if path.is_dir():
            inside = (p for p in path.rglob("*") if p.is_file())
            yield from (p.resolve() for p in inside if not _passed_over(p.relative_to(path).parts))
        elif path.exists():
            yield path.resolve()
        else:
            raise RawDataError(f"no raw file {path}: check the path")


def _passed_over(parts: tuple[str, ...]) -> bool:
    return any(part.startswith(("_", ".")) for part in parts) or parts[-1].endswith(".tmp")


def _is_folder(name: str) -> bool:
    return Path(unquote(urlparse(name).path) if urlparse(name).scheme == "file" else name).is_dir()


def _look_or_tell(path: Path) -> RawFile | NotWholeError:
    try:
        return _look(path)
    except NotWholeError as error:
        return error


def _look(path: Path) -> RawFile:
    try:
        size = path.stat().st_size
        if size == 0:
            raise NotWholeError(f"{path} is empty: remove it, or write it again")
        with pq.ParquetFile(path) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
        with path.open("rb") as data:
            digest = hashlib.file_digest(data, "sha256").hexdigest()
    except (pa.ArrowException, EOFError) as error:
        raise NotWholeError(
            f"{path} is not a whole Parquet file ({str(error).splitlines()[0]}): write it again, or name a file that "
            f"is still being written with a leading _ or a trailing .tmp"
        ) from error
    except OSError as error:
        raise RawDataError(f"cannot read {path} ({error.strerror or error}): check its permissions") from error
    return RawFile(path, size, digest, rows, schema)
