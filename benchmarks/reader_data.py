"""Tables for the reader's benchmark: requests with long histories, the same rows flat, and very many files."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.table import Table

from benchmarks.synthetic import Shape, SyntheticLog, long_history_spec
from lakehouse.catalog import local_path, open_catalog
from lakehouse.schema import arrow_schema, ensure_request_table
from lakehouse.settings import Settings
from lakehouse.spec import DatasetSpec

CANDIDATE = ("item_id", "impression_ts", "price", "click")
PART = 4096


def request_table(
    settings: Settings, name: str, shape: Shape, *, row_group: int, buckets: int = 4, page_bytes: int = 8 << 20
) -> Table:
    """The requests of a log, sorted by user in each file, written by PyIceberg in row groups of `row_group`."""
    spec = long_history_spec(name, buckets)
    log = SyntheticLog(shape)
    table = ensure_request_table(open_catalog(settings), spec, settings)
    with table.transaction() as change:
        change.set_properties(
            {"write.parquet.row-group-limit": str(row_group), "write.parquet.page-size-bytes": str(page_bytes)}
        )
    order = np.lexsort((np.arange(shape.requests), log.user))
    step = shape.requests if buckets > 64 else PART
    for start in range(0, shape.requests, step):
        part = _requests(log, order[start : start + step], spec)
        table.append(part.cast(table.schema().as_arrow()))
    return table.refresh()


def repeated(table: Table, times: int) -> Table:
    """The table with each of its files there `times` times: a large one, at the cost of a small one on the disk."""
    copies = []
    for task in table.scan().plan_files():
        path = local_path(task.file.file_path)
        for i in range(1, times):
            link = path.with_name(f"{path.stem}-{i}.parquet")
            link.hardlink_to(path)
            file = copy.deepcopy(task.file)
            file[1] = f"file://{link}"
            copies.append(file)
    with table.transaction() as change, change.update_snapshot().fast_append() as append:
        for file in copies:
            append.append_data_file(file)
    return table.refresh()


def _requests(log: SyntheticLog, requests: np.ndarray, spec: DatasetSpec) -> pa.Table:
    fanout, n = log.shape.fanout, len(requests)
    columns = {}
    shared = log.table(requests * fanout)
    for name in shared.column_names:
        if name not in CANDIDATE:
            columns[name] = shared[name]
    rows = (requests[:, None] * fanout + np.arange(fanout)).ravel()
    shown = pa.concat_tables([log.table(rows[i : i + PART]).select(CANDIDATE) for i in range(0, len(rows), PART)])
    parallel = {name: shown[name].combine_chunks() for name in CANDIDATE}
    parallel["position"] = pa.array(np.tile(np.arange(fanout, dtype=np.int32), n))
    offsets = pa.array(np.arange(n + 1, dtype=np.int32) * fanout)
    columns |= {name: pa.ListArray.from_arrays(offsets, values) for name, values in parallel.items()}
    columns |= {"request_hash": pa.array(np.zeros(n, np.int64))}
    return pa.table({field.name: columns[field.name] for field in arrow_schema(spec)})


def flat_files(folder: Path, shape: Shape, *, row_group: int, dictionary: bool, files: int = 4) -> list[Path]:
    """The log's impression rows sorted by user and request, as a flat reader would have them."""
    folder.mkdir(parents=True, exist_ok=True)
    log = SyntheticLog(shape)
    order = np.lexsort((np.arange(shape.requests), log.user))
    paths = []
    for i, requests in enumerate(np.array_split(order, files)):
        rows = (requests[:, None] * shape.fanout + np.arange(shape.fanout)).ravel()
        path = folder / f"part-{i}.parquet"
        writer = None
        for start in range(0, len(rows), row_group):
            table = log.table(rows[start : start + row_group])
            writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd", use_dictionary=dictionary)
            writer.write_table(table)
        if writer is not None:
            writer.close()
        paths.append(path)
    return paths
