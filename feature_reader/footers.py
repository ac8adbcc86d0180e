"""Footers of Parquet files: read with one request each, and understood once per schema.

A plan reads every footer. Building pyarrow's reader costs 0.2 ms a file, and its threads fight for the GIL; the
footer's bytes alone, made into `FileMetaData` by the function that unpickles it, cost 0.08. What follows from the
schema (columns by field id, strings, leaves) is kept and taken again for each file that carries the same one.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.table.name_mapping import NameMapping

from feature_reader.errors import UnsupportedError
from feature_reader.storage import Storage

TAIL = 32 << 10  # bytes of a file's end that are read at once: the footers of some hundred column chunks
SCHEMAS_KEPT = 8
FIELD_ID = b"PARQUET:field_id"
NAMES = (b"ARROW:schema", b"iceberg.schema")
"""Where writers repeat the whole schema: `ParquetSchema.equals` compares leaves and does not see a list's own name."""


@dataclass(frozen=True)
class Footer:
    """What a Parquet file says of itself, read once: its metadata, and its columns by field id."""

    metadata: pq.FileMetaData
    present: dict[int, str]
    """Field id to the top-level column's name in this file."""
    strings: tuple[str, ...]
    """Leaf paths that hold strings: read as dictionaries, so that each distinct one is hashed once."""
    leaves: dict[str, tuple[int, ...]]
    """Top-level name to its leaf column indices."""


class Footers:
    """Reads footers from a table's storage. Safe to use from several threads."""

    def __init__(self, storage: Storage, mapping: NameMapping | None) -> None:
        self._storage, self._mapping = storage, mapping
        self._known: list[Footer] = []
        self._lock = threading.Lock()

    def read(self, path: str) -> Footer:
        """A file's footer. Raises UnsupportedError for a file without field ids; what reading raises, as it comes."""
        if self._known and (metadata := self._quick(path)) is not None:
            for known in self._known:
                if _same_schema(known.metadata, metadata):
                    return replace(known, metadata=metadata)
        found = self._whole(path)
        with self._lock:
            self._known = [found, *self._known][:SCHEMAS_KEPT]
        return found

    def _quick(self, path: str) -> pq.FileMetaData | None:
        """The metadata from the file's last bytes; None where only the slow way can tell what is wrong."""
        with self._storage.new_input(path).open() as source:
            size = source.size()  # type: ignore[attr-defined]
            tail = source.read_at(min(TAIL, size), max(0, size - TAIL))  # type: ignore[attr-defined]
        length = int.from_bytes(tail[-8:-4], "little")
        if tail[-4:] != b"PAR1" or length + 8 > len(tail):
            return None
        unpickle = self._known[0].metadata.__reduce__()[0]
        try:
            return unpickle(pa.py_buffer(tail[-8 - length : -8]))
        except (OSError, pa.ArrowException):
            return None

    def _whole(self, path: str) -> Footer:
        with self._storage.new_input(path).open() as source, pq.ParquetFile(source) as file:
            metadata, schema = file.metadata, file.schema_arrow
        present = {int(f.metadata[FIELD_ID]): f.name for f in schema if f.metadata and FIELD_ID in f.metadata}
        if not present:
            if self._mapping is None:
                raise UnsupportedError(
                    f"{path} carries no Iceberg field ids and the table has no schema.name-mapping.default: "
                    "set the mapping, or rewrite the file with Iceberg"
                )
            present = {
                m.field_id: name
                for m in self._mapping.root
                for name in m.names
                if m.field_id is not None and name in schema.names
            }
        leaves: dict[str, tuple[int, ...]] = {}
        strings = []
        for i in range(metadata.num_columns):
            column = metadata.schema.column(i)
            top = column.path.split(".")[0]
            leaves[top] = (*leaves.get(top, ()), i)
            if column.logical_type.type == "STRING":
                strings.append(column.path)
        return Footer(metadata, present, tuple(strings), leaves)


def _same_schema(a: pq.FileMetaData, b: pq.FileMetaData) -> bool:
    """Whether two files have the same columns, names and field ids."""
    if not a.schema.equals(b.schema):
        return False
    named, other = a.metadata or {}, b.metadata or {}
    if any(name in named for name in NAMES):
        return all(named.get(name) == other.get(name) for name in NAMES)
    return bool(a.schema.to_arrow_schema().equals(b.schema.to_arrow_schema(), check_metadata=True))
