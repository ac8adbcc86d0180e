"""Footers of Parquet files: read with one request each, and understood once per schema.

A plan reads every footer. Building pyarrow's reader costs 0.2 ms a file, and its threads fight for the GIL; the
footer's bytes alone, made into `FileMetaData` by the function that unpickles it, cost 0.08. What follows from the
schema (columns by field id, strings, leaves) is kept and taken again for each file whose footer begins with the same
schema, byte for byte.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.table.name_mapping import NameMapping

from feature_reader.errors import UnsupportedError
from feature_reader.storage import Storage
from feature_reader.thrift import schema_end

TAIL = 32 << 10  # bytes of a file's end that are read at once: the footers of some hundred column chunks
SCHEMAS_KEPT = 8
FIELD_ID = b"PARQUET:field_id"


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
        self._known: list[tuple[bytes, Footer]] = []
        """Footers of other schemas, each with the bytes of its schema."""
        self._parse: Callable[[pa.Buffer], pq.FileMetaData]
        """How pyarrow makes metadata of a footer's bytes: the function that unpickles it."""
        self._lock = threading.Lock()

    def read(self, path: str) -> Footer:
        """A file's footer. Raises UnsupportedError for a file without field ids; what reading raises, as it comes."""
        raw = self._raw(path) if self._known else None
        if raw is not None:
            for schema, known in self._known:
                if raw.startswith(schema):
                    metadata = self._parsed(raw)
                    if metadata is not None:
                        return Footer(metadata, known.present, known.strings, known.leaves)
        found = self._whole(path)
        self._parse, (pickled,) = found.metadata.__reduce__()  # writes the footer: for the first of a schema alone
        written = bytes(pickled) if raw is None else raw
        if end := schema_end(written):
            with self._lock:
                self._known = [(written[:end], found), *self._known][:SCHEMAS_KEPT]
        return found

    def _raw(self, path: str) -> bytes | None:
        """The footer as it lies in the file; None where only the slow way can tell what is wrong."""
        tail = self._storage.tail(path, TAIL)
        length = int.from_bytes(tail[-8:-4], "little")
        if tail[-4:] != b"PAR1" or length + 8 > len(tail):
            return None
        return tail[-8 - length : -8]

    def _parsed(self, raw: bytes) -> pq.FileMetaData | None:
        """A footer's bytes as metadata; None if they are damaged."""
        try:
            return self._parse(pa.py_buffer(raw))
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
