"""Bytes of Parquet files, column by column: compressed, from the footers; decoded, as Arrow holds the values."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.errors import RawDataError

Open = Callable[[], Any]  # a path, or an open file of bytes


@dataclass(frozen=True)
class Measured:
    """Files of one layout. Columns are leaves, dotted without list levels: `history.item_id`, `genres`.

    `decoded` is empty where only the footers were read.
    """

    rows: int
    files: int
    file_bytes: int
    compressed: dict[str, int]
    decoded: dict[str, int] = field(default_factory=dict)
    codecs: tuple[str, ...] = ()
    decode_core_s: float = 0.0
    """Seconds of this process, all its threads together, in reading and decoding."""


def measure(files: Iterable[tuple[str, int, Open]], *, decode: bool) -> Measured:
    """Measure files given as (name, bytes, how to open). Raises RawDataError for one that is not whole Parquet."""
    compressed: Counter[str] = Counter()
    decoded: Counter[str] = Counter()
    codecs: set[str] = set()
    rows = count = size = 0
    began = time.process_time()
    for name, length, open_file in files:
        try:
            with pq.ParquetFile(open_file()) as file:
                rows, count, size = rows + file.metadata.num_rows, count + 1, size + length
                _read_footer(file, compressed, codecs)
                if decode:
                    for batch in file.iter_batches():
                        for column, values in zip(batch.schema.names, batch.columns, strict=True):
                            decoded.update(_leaf_bytes(column, values))
        except (pa.ArrowInvalid, OSError) as error:
            raise RawDataError(f"cannot read {name}: {error}. Is the file complete?") from error
    return Measured(
        rows, count, size, dict(compressed), dict(decoded), tuple(sorted(codecs)), time.process_time() - began
    )


def _read_footer(file: pq.ParquetFile, compressed: Counter[str], codecs: set[str]) -> None:
    names = leaf_names(file.schema_arrow)
    for group in range(file.metadata.num_row_groups):
        for i, name in enumerate(names):
            chunk = file.metadata.row_group(group).column(i)
            compressed[name] += chunk.total_compressed_size
            codecs.add(chunk.compression.lower())


def leaf_names(schema: pa.Schema) -> list[str]:
    """The leaves of a schema in Parquet's order, list levels left out."""
    return [leaf for column in schema for leaf in _leaves(column.name, column.type)]


def _leaves(name: str, kind: pa.DataType) -> list[str]:
    if pa.types.is_struct(kind):
        return [leaf for child in kind for leaf in _leaves(f"{name}.{child.name}", child.type)]
    if pa.types.is_map(kind):
        return [*_leaves(f"{name}.key", kind.key_type), *_leaves(f"{name}.value", kind.item_type)]
    if hasattr(kind, "value_type") and not pa.types.is_dictionary(kind):
        return _leaves(name, kind.value_type)
    return [name]


def _leaf_bytes(name: str, values: Any) -> dict[str, int]:
    """Arrow bytes by leaf; offsets and null flags of lists and structs go to their first leaf."""
    kind = values.type
    if pa.types.is_struct(kind):
        parts: dict[str, int] = {}
        for i, child in enumerate(kind):
            parts |= _leaf_bytes(f"{name}.{child.name}", values.field(i))
    elif hasattr(kind, "value_type") and not pa.types.is_dictionary(kind) and not pa.types.is_map(kind):
        parts = _leaf_bytes(name, values.flatten())
    else:
        return {leaf: values.nbytes if i == 0 else 0 for i, leaf in enumerate(_leaves(name, kind))}
    first = next(iter(parts))
    return parts | {first: parts[first] + max(values.nbytes - sum(parts.values()), 0)}
