"""Rows that Iceberg's delete files remove: positions per data file, read once a plan.

Position delete files and deletion vectors both come down to row numbers. Equality deletes are refused where the plan
is made (`plan.py`): PyIceberg does not plan them, and reading past them would bring deleted rows back.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.manifest import DataFile, FileFormat
from pyiceberg.table import FileScanTask
from pyiceberg.table.deletion_vector import deletion_vectors_from_puffin_file
from pyiceberg.table.puffin import PuffinFile

from feature_reader.columns import view
from feature_reader.errors import UnsupportedError
from feature_reader.files import bare_path
from feature_reader.storage import Storage, file_errors


def deleted_rows(storage: Storage, tasks: Iterable[FileScanTask], pool: ThreadPoolExecutor) -> dict[str, np.ndarray]:
    """Data file (bare path) to its deleted row numbers, sorted, by the delete files that apply to it."""
    wanted: dict[str, set[str]] = {}
    files: dict[str, DataFile] = {}
    for task in tasks:
        for delete in task.delete_files:
            files[delete.file_path] = delete
            wanted.setdefault(delete.file_path, set()).add(bare_path(task.file.file_path))
    found: dict[str, list[np.ndarray]] = {}
    for path, positions in zip(files, pool.map(lambda f: _positions(storage, f), files.values()), strict=True):
        for data_file, rows in positions.items():
            if data_file in wanted[path]:
                found.setdefault(data_file, []).append(rows)
    return {data_file: np.unique(np.concatenate(parts)) for data_file, parts in found.items()}


def _positions(storage: Storage, delete: DataFile) -> dict[str, np.ndarray]:
    path = delete.file_path
    with file_errors(path):
        if delete.file_format == FileFormat.PARQUET:
            return _by_file(storage.retried(lambda: _read_parquet(storage, path)))
        if delete.file_format == FileFormat.PUFFIN:
            vectors = deletion_vectors_from_puffin_file(PuffinFile(storage.retried(lambda: storage.whole(path))))
            return {bare_path(v.referenced_data_file): v.to_vector().to_numpy().astype(np.int64) for v in vectors}
    raise UnsupportedError(
        f"delete file {path} is {delete.file_format.name}: only Parquet and deletion vectors are applied"
    )


def _read_parquet(storage: Storage, path: str) -> pa.Table:
    with storage.new_input(path).open() as source:
        return pq.read_table(source, columns=["file_path", "pos"], read_dictionary=["file_path"], use_threads=False)


def _by_file(table: pa.Table) -> dict[str, np.ndarray]:
    if table.num_rows == 0:
        return {}
    table = table.unify_dictionaries().combine_chunks()
    names = table["file_path"].chunk(0)
    codes, positions = view(names.indices), view(table["pos"].chunk(0)).astype(np.int64)
    order = np.argsort(codes, kind="stable")
    bounds = np.searchsorted(codes[order], np.arange(len(names.dictionary) + 1))
    return {
        bare_path(name): positions[order[start:stop]]
        for name, start, stop in zip(names.dictionary.to_pylist(), bounds[:-1], bounds[1:], strict=True)
        if stop > start
    }
