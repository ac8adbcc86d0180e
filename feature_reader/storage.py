"""How the reader reaches a table's files: tried again where an error may pass, with new credentials where they expired.

What reading raises in the end becomes one DataFileError that names the file and the likely cause.
"""

from __future__ import annotations

import io
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from time import monotonic
from typing import Any, TypeAlias, TypeVar

import pyarrow as pa
from pyiceberg.catalog.noop import NoopCatalog
from pyiceberg.io import FileIO, InputFile, OutputFile, load_file_io
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.table import Table
from tenacity import Retrying, retry_if_exception, stop_after_attempt, stop_after_delay, wait_random_exponential

from feature_reader.errors import DataFileError

ATTEMPTS = 3
PATIENCE_S = 30  # a read that fails after so long is not tried again: the client's own timeouts and tries are behind it
REFUSED = re.compile(
    r"ACCESS_DENIED|EXPIRED_TOKEN|INVALID_ACCESS_KEY|INVALID_CLIENT_TOKEN|SIGNATURE|UNRECOGNIZED_CLIENT"
    r"|AccessDenied|ExpiredToken|InvalidAccessKeyId|SignatureDoesNotMatch|HTTP status 40[13]|Unauthorized|Forbidden"
)
"""What storage says of credentials that it does not take: AWS's names as PyArrow and as S3 spell them."""
Credentials: TypeAlias = Callable[[], Mapping[str, str]]
"""Gives PyIceberg's FileIO properties anew, as in `{"s3.access-key-id": …, "s3.secret-access-key": …}`."""
T = TypeVar("T")


class Storage:
    """A table's FileIO, exchanged for one with new credentials when those in use are refused. Safe between threads.

    New credentials come from `credentials`, or else with the table loaded anew: a REST catalog vends them so.
    """

    def __init__(self, table: Table, credentials: Credentials | None = None) -> None:
        self._table, self._credentials = table, credentials
        self._io: FileIO = table.io
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return Storage, (_with_io(self._table, self._io, NoopCatalog("worker")), self._credentials)

    @property
    def table(self) -> Table:
        """The table as it was opened, with the credentials in use."""
        return _with_io(self._table, self._io, self._table.catalog)

    @property
    def table_to_plan(self) -> Table:
        """The same table, each of whose manifests is tried again by itself: a plan may read hundreds."""
        return _with_io(self._table, _FileByFile(self, self._io), self._table.catalog)

    def new_input(self, path: str) -> InputFile:
        """A file, to be opened with the credentials in use."""
        return self._io.new_input(path)

    def whole(self, path: str) -> bytes:
        """All of a file."""
        with self._io.new_input(path).open() as source:
            return bytes(source.read())

    def tail(self, path: str, size: int) -> bytes:
        """The last bytes of a file, at most `size`."""
        if path.startswith("file:///") and isinstance(self._io, PyArrowFileIO):
            return _local_tail(path.removeprefix("file://"), size)
        with self._io.new_input(path).open() as source:
            end = source.seek(0, os.SEEK_END)
            source.seek(max(0, end - size))
            return source.read(size)

    def retried(self, read: Callable[[], T]) -> T:
        """The result of `read`, tried again where that may help; each try has to open its files anew."""
        used = self._io
        try:
            return _retried(read)
        except OSError as error:
            if not is_refused(error) or not self._renew(used):
                raise
        return _retried(read)

    def _renew(self, used: FileIO) -> bool:
        """Have other credentials than `used`; False where there is nobody to ask."""
        with self._lock:
            if self._io is not used:
                return True  # another thread was here first
            if self._credentials is not None:
                self._io = load_file_io({**used.properties, **self._credentials()}, self._table.location())
            elif isinstance(self._table.catalog, NoopCatalog):
                return False
            else:
                self._io = self._table.catalog.load_table(self._table.name()).io
            return True


class _FileByFile(FileIO):
    """A FileIO whose files are read whole when they are opened, each tried again where that may help."""

    def __init__(self, storage: Storage, used: FileIO) -> None:
        super().__init__(used.properties)
        self._storage, self._used = storage, used

    def new_input(self, location: str) -> InputFile:
        return _WholeFile(location, self._storage)

    def new_output(self, location: str) -> OutputFile:
        return self._used.new_output(location)

    def delete(self, location: str | InputFile | OutputFile) -> None:
        self._used.delete(location)


class _WholeFile(InputFile):
    def __init__(self, location: str, storage: Storage) -> None:
        super().__init__(location)
        self._storage = storage

    def __len__(self) -> int:
        return len(self._storage.new_input(self.location))

    def exists(self) -> bool:
        return self._storage.new_input(self.location).exists()

    def open(self, seekable: bool = True) -> io.BytesIO:  # noqa: ARG002
        return io.BytesIO(self._storage.retried(lambda: self._storage.whole(self.location)))


def _local_tail(path: str, size: int) -> bytes:
    """The same of a local file, in half of the time: a plan reads thousands."""
    file = os.open(path, os.O_RDONLY)
    try:
        return os.pread(file, size, max(0, os.fstat(file).st_size - size))
    finally:
        os.close(file)


def _with_io(table: Table, io: FileIO, catalog: Any) -> Table:
    return Table(table.name(), table.metadata, table.metadata_location, io, catalog)


def _retried(read: Callable[[], T]) -> T:
    """The result of `read`, tried again with growing pauses where an I/O error may pass."""
    start = monotonic()
    try:
        return read()
    except OSError as error:
        if not is_transient(error) or monotonic() - start > PATIENCE_S:
            raise
    return Retrying(
        stop=stop_after_attempt(ATTEMPTS - 1) | stop_after_delay(PATIENCE_S),
        wait=wait_random_exponential(multiplier=0.1, max=2),
        retry=retry_if_exception(is_transient),
        reraise=True,
    )(read)


@contextmanager
def file_errors(path: str) -> Iterator[None]:
    """Turn what reading raises into one DataFileError that names the file and the likely cause."""
    try:
        yield
    except FileNotFoundError as error:
        raise DataFileError(
            f"the snapshot's file {path} is not there: it was removed by hand or its snapshot was expired while "
            "being read. Tag the snapshot that you train on, or read a newer one"
        ) from error
    except pa.ArrowInvalid as error:
        raise DataFileError(f"{path} is not readable Parquet, is it truncated? {error}") from error
    except OSError as error:
        if is_refused(error):
            raise DataFileError(
                f"{path} may not be read: {error}. Are the credentials right, and not expired? A reader renews them "
                "where its catalog vends them, or with credentials=<function that gives new ones>"
            ) from error
        raise DataFileError(f"cannot read {path} after up to {ATTEMPTS} attempts: {error}") from error


def is_refused(error: BaseException) -> bool:
    """Whether storage did not take the credentials."""
    return isinstance(error, PermissionError) or (isinstance(error, OSError) and REFUSED.search(str(error)) is not None)


def is_transient(error: BaseException) -> bool:
    """Whether trying again may help: an I/O error other than a file that is not there or not ours."""
    lasting = (FileNotFoundError, IsADirectoryError)
    return isinstance(error, OSError) and not isinstance(error, lasting) and not is_refused(error)
