"""The raw rows once more, in another order, with good settings: what a request table has to be compared with.

Each layout gets zstd, 8 MB pages, row groups of about 64 MB decoded, and for every column a dictionary or none,
whichever is smaller on its first row group.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from lakehouse.spec import DatasetSpec

SETTINGS = (
    "zstd level 3, 8 MB pages, row groups of 64 MB decoded, per column a dictionary or none, whichever is smaller"
)
ROW_GROUP_BYTES, PAGE_BYTES, LEVEL = 64 << 20, 8 << 20, 3
Rows = NDArray[np.int64]


def time_order(files: list[Path], spec: DatasetSpec) -> Rows:
    """Row numbers, counted over the files in turn, in the order of the impressions' time."""
    at = spec.keys.impression_ts or spec.keys.request_ts
    return _sorted(files, [at.column, *_user_and_request(spec)])


def user_order(files: list[Path], spec: DatasetSpec) -> Rows:
    """Row numbers by user and request, the published way, then by position or time."""
    at = spec.keys.impression_ts or spec.keys.request_ts
    return _sorted(files, [*_user_and_request(spec), spec.keys.position or at.column])


def _user_and_request(spec: DatasetSpec) -> list[str]:
    keys = spec.keys
    request = [keys.request_id.column] if keys.request_id.column else [keys.request_ts.column]
    return [keys.user_id.column, *keys.user_id.fallback, *request]


def _sorted(files: list[Path], keys: list[str]) -> Rows:
    roots = list(dict.fromkeys(key if key in pq.read_schema(files[0]).names else key.split(".")[0] for key in keys))
    table = pa.concat_tables([pq.read_table(file, columns=roots) for file in files], promote_options="permissive")
    columns = {f"k{i}": _at(table, key) for i, key in enumerate(keys)}
    order = pc.sort_indices(pa.table(columns), sort_keys=[(name, "ascending") for name in columns])
    rows: Rows = order.to_numpy().astype(np.int64)
    return rows


def _at(table: pa.Table, key: str) -> pa.ChunkedArray:
    if key in table.schema.names:
        return table[key]
    root, *rest = key.split(".")
    return pc.struct_field(table[root], rest)


def rewrite(files: list[Path], order: Rows, folder: Path, *, parts: int, decoded_bytes: int, memory: int) -> list[Path]:
    """Write the rows of `files` in `order` as `parts` files of about equal rows; returns their paths.

    As many passes over the raw files as keep the rows of one pass under `memory` bytes decoded.
    """
    folder.mkdir(parents=True, exist_ok=True)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    bounds = np.linspace(0, len(order), parts + 1).astype(np.int64)
    passes = min(parts, max(1, -(-decoded_bytes // memory)))
    group_rows = max(1, int(ROW_GROUP_BYTES * len(order) / max(decoded_bytes, 1)))
    paths: list[Path] = []
    for mine in np.array_split(np.arange(parts), passes):
        low, high = bounds[mine[0]], bounds[mine[-1] + 1]
        rows = _gather(files, place, int(low), int(high))
        for part in mine:
            path = folder / f"part-{part:05d}.parquet"
            start, end = int(bounds[part]), int(bounds[part + 1])
            _write(rows.slice(start - int(low), end - start), path, group_rows)
            paths.append(path)
    return paths


def _gather(files: list[Path], place: Rows, low: int, high: int) -> pa.Table:
    """The rows whose place lies in [low, high), in that order."""
    schema = pa.unify_schemas([pq.read_schema(f).remove_metadata() for f in files], promote_options="permissive")
    found, places = [], []
    for first, batch in _batches(files):
        at = place[first : first + batch.num_rows]
        here = np.flatnonzero((at >= low) & (at < high))
        if len(here):
            found.append(pa.Table.from_batches([batch.take(pa.array(here))]))
            places.append(at[here])
    # Files of before a change of the log lack columns that others have.
    table = pa.concat_tables([schema.empty_table(), *found], promote_options="permissive")
    order = np.argsort(np.concatenate(places)) if places else np.empty(0, np.int64)
    return table.combine_chunks().take(pa.array(order))


def _batches(files: list[Path]) -> Iterator[tuple[int, pa.RecordBatch]]:
    first = 0
    for file in files:
        with pq.ParquetFile(file) as parquet:
            for batch in parquet.iter_batches(batch_size=16_384):
                yield first, batch
                first += batch.num_rows


def _write(rows: pa.Table, path: Path, group_rows: int) -> None:
    pq.write_table(
        rows, path, row_group_size=group_rows, use_dictionary=_with_dictionary(rows, group_rows), **_common()
    )


def _common() -> dict[str, object]:
    return {"compression": "zstd", "compression_level": LEVEL, "data_page_size": PAGE_BYTES}


def _with_dictionary(rows: pa.Table, group_rows: int) -> list[str]:
    """The columns (Parquet paths) that are smaller with a dictionary, judged by the first row group."""
    sizes: list[dict[str, int]] = []
    for dictionary in (True, False):
        sink = pa.BufferOutputStream()
        pq.write_table(
            rows.slice(0, group_rows), sink, row_group_size=group_rows, use_dictionary=dictionary, **_common()
        )
        footer = pq.read_metadata(pa.BufferReader(sink.getvalue()))
        groups = [footer.row_group(g) for g in range(footer.num_row_groups)]
        chunks = [group.column(i) for group in groups for i in range(footer.num_columns)]
        sizes.append({c.path_in_schema: c.total_compressed_size for c in chunks})
    with_one, without = sizes
    return [path for path, size in with_one.items() if size < without[path]]
