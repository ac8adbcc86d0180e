"""Data files: opened through the table's FileIO, columns found by Iceberg field id, errors that name the file."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.table.name_mapping import NameMapping

from feature_reader.cache import KeptEntries, entry_of
from feature_reader.footers import Footer, Footers
from feature_reader.storage import Storage, file_errors

FOOTERS_KEPT = 64
STREAM_BUFFER, REMOTE_BUFFER = 64 << 10, 1 << 20  # read at once of each column while a row group is gone through
MEASURED_BYTES = 8 << 20  # of a column whose lists are measured: more is gone through in parts


def bare_path(path: str) -> str:
    """A path without its scheme: `file:/x`, `file:///x` and `/x` are one file, as are `s3://b/x` and `s3a://b/x`."""
    scheme, colon, rest = path.partition(":")
    if not colon or "/" in scheme:
        return path
    return "/" + rest.lstrip("/") if scheme == "file" else rest.lstrip("/")


def is_local(path: str) -> bool:
    """Whether a path is on this machine's disks."""
    return path.startswith("file:") or "://" not in path


class DataFiles:
    """Opens a table's data files. Safe to use from several threads; keeps no file open between calls."""

    def __init__(self, storage: Storage, mapping: NameMapping | None) -> None:
        self.storage = storage
        self._mapping = mapping
        self._reader = Footers(storage, mapping)
        self._footers: OrderedDict[str, Footer] = OrderedDict()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return DataFiles, (self.storage, self._mapping)

    def footer(self, path: str) -> Footer:
        """A file's footer, from memory where it was read lately."""
        with self._lock:
            if path in self._footers:
                self._footers.move_to_end(path)
                return self._footers[path]
        with file_errors(path):
            found = self.storage.retried(lambda: self._reader.read(path))
        with self._lock:
            self._footers[path] = found
            if len(self._footers) > FOOTERS_KEPT:
                self._footers.popitem(last=False)
        return found

    def ranges(self, path: str, row_group: int, columns: list[str]) -> list[tuple[int, int]]:
        """Offset and length of each of these columns' chunks, in the order of the file."""
        footer = self.footer(path)
        group = footer.metadata.row_group(row_group)
        chunks = [group.column(leaf) for name in columns for leaf in footer.leaves[name]]
        return sorted(
            (min(c.data_page_offset, c.dictionary_page_offset or c.data_page_offset), c.total_compressed_size)
            for c in chunks
        )

    def read(self, path: str, row_group: int, columns: list[str], kept: KeptEntries | None = None) -> pa.Table:
        """These columns (the file's own names) of one row group; `columns` may be empty.

        With `kept`, they come from the disk cache and go to it, if it keeps them.
        """

        def once() -> pa.Table:
            with self.opened(path, row_group, columns, kept) as file:
                return file.read_row_group(row_group, columns=columns, use_threads=False)

        with file_errors(path):
            return self.storage.retried(once)

    def measure(
        self, path: str, row_group: int, columns: list[str], measure: Callable[[pa.Table], np.ndarray]
    ) -> np.ndarray:
        """What `measure` says of each row of a row group, some rows at a time."""
        footer = self.footer(path)
        group = footer.metadata.row_group(row_group)
        size = sum(group.column(leaf).total_uncompressed_size for name in columns for leaf in footer.leaves[name])
        if size <= MEASURED_BYTES:
            return measure(self.read(path, row_group, columns))
        rows = max(1, group.num_rows * MEASURED_BYTES // size)

        def once() -> np.ndarray:
            with self.opened(path, row_group, columns, streaming=True) as file:
                batches = file.iter_batches(rows, row_groups=[row_group], columns=columns, use_threads=False)
                return np.concatenate([measure(pa.Table.from_batches([batch])) for batch in batches])

        with file_errors(path):
            return self.storage.retried(once)

    @contextmanager
    def opened(
        self,
        path: str,
        row_group: int,
        columns: list[str],
        kept: KeptEntries | None = None,
        *,
        streaming: bool = False,
    ) -> Iterator[pq.ParquetFile]:
        """The file, to read these columns of one row group; `streaming` with little of them in memory at a time.

        Raises what reading raises.
        """
        footer, remote = self.footer(path), not is_local(path)
        buffer = (REMOTE_BUFFER if remote else STREAM_BUFFER) if streaming else 0
        with ExitStack() as stack:
            parts = None
            if kept is not None and remote:
                parts = stack.enter_context(self._parts(path, row_group, columns, kept))
            source = parts if parts is not None else stack.enter_context(self.storage.new_input(path).open())
            yield stack.enter_context(
                pq.ParquetFile(
                    source,
                    metadata=footer.metadata,
                    read_dictionary=list(footer.strings),
                    buffer_size=buffer,
                    pre_buffer=remote and parts is None and not streaming,
                )
            )

    @contextmanager
    def _parts(self, path: str, row_group: int, columns: list[str], kept: KeptEntries) -> Iterator[Any]:
        """The columns' bytes from the disk cache; None where it does not keep them."""
        ranges = self.ranges(path, row_group, columns)
        entry = entry_of(path, row_group, ranges)
        if not kept.holds(entry):
            yield None
            return
        with kept.open(entry, ranges, lambda: self.storage.new_input(path).open()) as parts:
            try:
                yield None if parts is None else pa.PythonFile(parts, mode="r")
            except (OSError, pa.ArrowInvalid):
                kept.refuse(entry)
                raise


def streaming_bytes(footer: Footer, row_group: int, columns: list[str], path: str, page_bytes: int) -> int:
    """Bytes that going through a row group takes: of each leaf a buffer, and a page as it lies and decompressed."""
    group = footer.metadata.row_group(row_group)
    leaves = [group.column(leaf) for name in columns for leaf in footer.leaves[name]]
    page = int(1.1 * page_bytes)  # writers look at a page's size after each of their batches
    buffer = STREAM_BUFFER if is_local(path) else REMOTE_BUFFER
    return sum(
        min(buffer + page, 2 * leaf.total_compressed_size) + min(page, leaf.total_uncompressed_size) for leaf in leaves
    )
