"""The SQL benchmark's tables on the stack's lake: one log as a request table, flat sorted, and flat in random order.

All three hold the same impressions under the same file properties, in row groups of about 64 MB decoded, and are
streamed to S3 chunk by chunk: flat, the histories alone are gigabytes. Candidates carry an embedding, so that the
request table's file passes 64 MB with fewer requests; flat and request table store it alike, once an impression.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Self

import numpy as np
import pyarrow as pa
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.io.fileformat import FileFormatFactory
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.table import Table
from pyiceberg.typedef import Record

from benchmarks.synthetic import Shape, SyntheticLog, long_history_spec
from lakehouse.catalog import open_catalog
from lakehouse.schema import arrow_schema, ensure_request_table, table_properties
from lakehouse.settings import Settings
from lakehouse.spec import DatasetSpec, parse_spec

LOOK = 32  # floats of a candidate's embedding
GROUP = 6144  # rows of a row group: 64 MB decoded at 512 events
CANDIDATE = ("item_id", "position", "impression_ts", "price", "look", "click")
REQUESTS, SORTED, UNSORTED, MANY = "sql_requests", "sql_flat_sorted", "sql_flat_unsorted", "sql_many_requests"
DONE = "benchmark.done"


def spec_of(name: str = "sql", buckets: int = 1) -> DatasetSpec:
    """Long histories, and an embedding on each candidate."""
    declared = long_history_spec(name, buckets).model_dump(mode="json", by_alias=True, exclude_none=True)
    declared["candidate_features"]["look"] = {"type": f"vector<float, {LOOK}>"}
    return parse_spec(declared)


def flat_rows(log: SyntheticLog, rows: np.ndarray) -> pa.Table:
    """The given impressions, every column."""
    chosen = (rows % 1009)[:, None] * LOOK + np.arange(LOOK)
    look = np.random.default_rng(log.shape.seed).normal(size=1009 * LOOK).astype(np.float32)[chosen]
    look += (rows * 1e-3).astype(np.float32)[:, None]  # no two alike: nothing for a compressor
    offsets = pa.array(np.arange(len(rows) + 1, dtype=np.int32) * LOOK)
    slot = (rows % log.shape.fanout).astype(np.int32)
    table = log.table(rows)
    table = table.append_column("look", pa.ListArray.from_arrays(offsets, pa.array(look.ravel())))
    return table.append_column("position", pa.array(slot))


def requests_of(flat: pa.Table, fanout: int, spec: DatasetSpec) -> pa.Table:
    """Whole requests' impressions, in order, as request rows."""
    n = len(flat) // fanout
    first = flat.take(pa.array(np.arange(n) * fanout))
    offsets = pa.array(np.arange(n + 1, dtype=np.int32) * fanout)
    parallel = {name: pa.ListArray.from_arrays(offsets, flat[name].combine_chunks()) for name in CANDIDATE}
    columns = {name: first[name] for name in first.column_names} | parallel
    columns["request_hash"] = pa.chunked_array([np.zeros(n, np.int64)])
    return pa.table({field.name: columns[field.name] for field in arrow_schema(spec)})


def make(settings: Settings, shape: Shape) -> None:
    """Write what is not there yet, two processes side by side."""
    with ProcessPoolExecutor(2) as pool:
        tasks = [pool.submit(way, settings, shape) for way in (_write_sorted, _write_unsorted)]
        for task in tasks:
            task.result()
    _write_many(settings, shape)


def _write_sorted(settings: Settings, shape: Shape) -> None:
    """The request table and the flat sorted one, from the same rows: a file each."""
    spec, log = spec_of(), SyntheticLog(shape)
    requests = ensure_request_table(open_catalog(settings), spec, settings)
    if DONE in requests.properties:
        return
    flat = _flat_table(settings, SORTED, flat_rows(log, np.arange(1)).schema)
    order = np.lexsort((np.arange(shape.requests), log.user))
    rows = (order[:, None] * shape.fanout + np.arange(shape.fanout)).ravel()
    kept: list[pa.Table] = []
    with _File(requests, Record(0)) as whole, _File(flat) as repeated:
        for part in _parts(rows, GROUP // shape.fanout * shape.fanout):
            chunk = flat_rows(log, part)
            repeated.write(chunk)
            kept.append(requests_of(chunk, shape.fanout, spec))
            if sum(map(len, kept)) >= GROUP:
                whole.write(pa.concat_tables(kept))
                kept = []
        if kept:
            whole.write(pa.concat_tables(kept))
    _publish(flat, [repeated.written])
    _publish(requests, [whole.written])


def _write_unsorted(settings: Settings, shape: Shape, files: int = 4) -> None:
    log = SyntheticLog(shape)
    table = _flat_table(settings, UNSORTED, flat_rows(log, np.arange(1)).schema)
    if DONE in table.properties:
        return
    written = []
    for rows in np.array_split(log.order("random"), files):
        with _File(table) as file:
            for part in _parts(rows, GROUP):
                file.write(flat_rows(log, part))
        written.append(file.written)
    _publish(table, written)


def _write_many(settings: Settings, shape: Shape) -> None:
    """Short histories in 16 buckets, for the look-up of one user."""
    spec = spec_of("sql_many", buckets=16)
    table = ensure_request_table(open_catalog(settings), spec, settings)
    if table.current_snapshot() is None:
        log = SyntheticLog(Shape(requests=min(2000, shape.requests), history=32, fanout=8))
        rows = requests_of(flat_rows(log, np.arange(log.rows)), log.shape.fanout, spec)
        table.append(rows.sort_by([("user_id", "ascending"), ("request_id", "ascending")]).cast(_arrow(table)))


def _flat_table(settings: Settings, name: str, schema: pa.Schema) -> Table:
    catalog, layout = open_catalog(settings), table_properties(spec_of())
    properties = {k: v for k, v in layout.items() if k.startswith("write.")}
    catalog.create_namespace_if_not_exists("bench")
    try:
        return catalog.load_table(f"bench.{name}")
    except NoSuchTableError:
        return catalog.create_table(f"bench.{name}", schema, properties=properties)


def _arrow(table: Table) -> pa.Schema:
    return table.schema().as_arrow()


def _parts(rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def _publish(table: Table, files: list[DataFile]) -> None:
    """One commit of the files, which says that the table is whole."""
    with table.transaction() as change:
        with change.update_snapshot().fast_append() as append:
            for file in files:
                append.append_data_file(file)
        change.set_properties({DONE: "true"})


class _File:
    """One data file, a row group a `write`; PyIceberg's `append` would hold the whole of it in memory."""

    def __init__(self, table: Table, partition: Record | None = None) -> None:
        self.table, self.partition = table, partition or Record()
        self.path = f"{table.location()}/data/{uuid.uuid4()}.parquet"
        self.output = table.io.new_output(self.path)
        model = FileFormatFactory.get(FileFormat.PARQUET)
        self.writer = model.create_writer(self.output, table.schema(), table.properties)

    def __enter__(self) -> Self:
        return self

    def write(self, rows: pa.Table) -> None:
        self.writer.write(rows.select(_arrow(self.table).names).cast(_arrow(self.table)).combine_chunks())

    def __exit__(self, *_: object) -> None:
        statistics = self.writer.close()
        self.written = DataFile.from_args(
            content=DataFileContent.DATA,
            file_path=self.path,
            file_format=FileFormat.PARQUET,
            partition=self.partition,
            file_size_in_bytes=len(self.output),
            sort_order_id=None,
            spec_id=self.table.metadata.default_spec_id,
            equality_ids=None,
            key_metadata=None,
            **statistics.to_serialized_dict(),
        )
