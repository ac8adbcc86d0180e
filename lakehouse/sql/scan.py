"""One scan of an Iceberg table for DuckDB: a snapshot's files, read in place by field id, without deleted rows."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from urllib.parse import urlparse

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.arrow import ArrowFSWrapper  # type: ignore[import-untyped]
from pyiceberg.expressions import BooleanExpression
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.table import FileScanTask

from lakehouse.errors import SqlError
from lakehouse.sql.bind import ScanSource
from lakehouse.sql.dialect import duckdb_type
from lakehouse.sql.metadata import metadata_table

NAME_MAPPING = "schema.name-mapping.default"
GLOB = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class ScanPlan:
    """What one table reference of a query opens."""

    table: str
    snapshot_id: int | None
    filter: str
    files: int
    files_in_all: int
    bytes: int
    deletes: int


def create_scan(connection: duckdb.DuckDBPyConnection, source: ScanSource, row_filter: BooleanExpression) -> ScanPlan:
    """Make the view `source.name` in DuckDB. Raises SqlError for files that cannot be read exactly."""
    snapshot = source.snapshot
    if source.metadata:
        rows = metadata_table(source.table, source.metadata, snapshot)
        connection.register(source.name, rows)
        return ScanPlan(source.written, snapshot.snapshot_id if snapshot else None, "", 0, 0, 0, 0)
    tasks = _plan(source, row_filter)
    in_all = int(snapshot.summary["total-data-files"] or 0) if snapshot and snapshot.summary else 0
    plan = ScanPlan(
        source.written,
        snapshot.snapshot_id if snapshot else None,
        str(row_filter),
        len(tasks),
        in_all,
        sum(task.file.file_size_in_bytes for task in tasks),
        sum(len(task.delete_files) for task in tasks),
    )
    connection.execute(f"CREATE TEMP VIEW {source.name} AS {_select(connection, source, tasks)}")
    return plan


def _plan(source: ScanSource, row_filter: BooleanExpression) -> list[FileScanTask]:
    if source.snapshot is None:
        return []
    try:
        tasks = list(source.table.scan(row_filter, snapshot_id=source.snapshot.snapshot_id).plan_files())
    except ValueError as error:
        if "equality deletes" not in str(error):
            raise
        raise _undeleted(source, "equality deletes") from error
    _check(source, tasks)
    return tasks


def _undeleted(source: ScanSource, found: str) -> SqlError:
    remedy = "rewrite the table's files (`reqlake compact`), or use Trino"
    return SqlError(f"{source.written} has {found}, which embedded SQL does not apply: {remedy}")


def _check(source: ScanSource, tasks: list[FileScanTask]) -> None:
    if NAME_MAPPING in source.table.properties:
        raise SqlError(
            f"{source.written} has files without field ids (property {NAME_MAPPING}): rewrite them, or use Trino"
        )
    for task in tasks:
        if task.file.file_format != FileFormat.PARQUET:
            raise SqlError(
                f"{source.written} has a {task.file.file_format.value} file: embedded SQL reads Parquet, use Trino"
            )
        for delete in task.delete_files:
            kind = delete.content
            if kind != DataFileContent.POSITION_DELETES or delete.file_format != FileFormat.PARQUET:
                raise _undeleted(source, f"{kind.name.lower().replace('_', ' ')} in {delete.file_format.value}")


def _select(connection: duckdb.DuckDBPyConnection, source: ScanSource, tasks: list[FileScanTask]) -> str:
    columns = [
        (f.field_id, f.name, duckdb_type(f.field_type)) for f in source.schema.fields if f.name not in source.hidden
    ]
    hidden = "".join(f', CAST(NULL AS VARCHAR) AS "{name}"' for name in source.hidden)
    if not tasks:
        nulls = ", ".join(f"CAST(NULL AS {kind}) AS {_quoted(name)}" for _, name, kind in columns)
        return f"SELECT {nulls}{hidden} WHERE false"
    names = ", ".join(_quoted(name) for _, name, _ in columns)
    entries = ", ".join(
        f"{i}: {{name: {_text(n)}, type: {_text(k or '')}, default_value: NULL}}" for i, n, k in columns
    )
    parts = []
    for deleted in (False, True):
        files = [task.file for task in tasks if bool(task.delete_files) == deleted]
        if not files:
            continue
        paths = [_path(connection, source, file.file_path) for file in files]
        listed = ", ".join(_text(path) for path in paths)
        extra = ", file_row_number = true, filename = true" if deleted else ""
        read = f"read_parquet([{listed}], schema = MAP {{{entries}}}, hive_partitioning = false{extra})"
        if deleted:
            name = f"{source.name}_deletes"
            connection.register(name, _deletes(connection, source, tasks))
            same = "x.file = d.filename AND x.pos = d.file_row_number"
            parts.append(
                f"SELECT {names}{hidden} FROM {read} AS d WHERE NOT EXISTS (SELECT 1 FROM {name} AS x WHERE {same})"
            )
        else:
            parts.append(f"SELECT {names}{hidden} FROM {read}")
    return " UNION ALL ".join(parts)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _io(source: ScanSource) -> PyArrowFileIO:
    return PyArrowFileIO(source.table.io.properties)


def _path(connection: duckdb.DuckDBPyConnection, source: ScanSource, location: str) -> str:
    """A local file's path, or `reqlake-<scheme>-<host>://…`, which DuckDB reads through PyArrow's filesystem.

    DuckDB's own reader of S3 is an extension, which has to be downloaded.
    """
    scheme, netloc, path = PyArrowFileIO.parse_location(location, source.table.io.properties)
    if scheme in ("file", "") and not GLOB.search(path):  # DuckDB would take such a path for a pattern
        return path
    protocol = re.sub(r"[^a-z0-9]", "-", f"reqlake-{scheme}-{urlparse(location).netloc}".lower())
    if not connection.filesystem_is_registered(protocol):
        connection.register_filesystem(_wrapped(_io(source).fs_by_scheme(scheme, netloc), protocol))
    return f"{protocol}://{path}"


class _SharedFile:
    """One open file for all of DuckDB's threads: each seeks, then reads, and no other may move its place meanwhile."""

    def __init__(self, file: pa.NativeFile) -> None:
        self.file, self.place = file, threading.local()

    def seek(self, place: int) -> int:
        self.place.at = place
        return place

    def tell(self) -> int:
        at: int = getattr(self.place, "at", 0)
        return at

    def read(self, size: int) -> bytes:
        data: bytes = self.file.read_at(size, self.tell())
        self.seek(self.tell() + len(data))
        return data

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        self.file.close()


def _wrapped(filesystem: object, name: str) -> ArrowFSWrapper:
    class Wrapped(ArrowFSWrapper):  # type: ignore[misc]
        protocol = name
        root_marker = ""

        def _open(self, path: str, **_: object) -> _SharedFile:
            return _SharedFile(self.fs.open_input_file(path))

        def glob(self, path: str, **_: object) -> list[str]:
            return [path]  # names of files, never patterns

        @classmethod
        def _strip_protocol(cls, path: str) -> str:
            return str(path).removeprefix(f"{name}://")

    return Wrapped(fs=filesystem, skip_instance_cache=True)


def _deletes(connection: duckdb.DuckDBPyConnection, source: ScanSource, tasks: list[FileScanTask]) -> pa.Table:
    """(file, pos) of every deleted row; each engine writes the same path differently, so paths are made alike."""
    seen: dict[str, DataFile] = {d.file_path: d for task in tasks for d in task.delete_files}
    parts = [pa.table({"file": pa.array([], pa.string()), "pos": pa.array([], pa.int64())})]
    for location in seen:
        with source.table.io.new_input(location).open() as stream:
            rows = pq.read_table(stream, columns=["file_path", "pos"])
        written = rows.column("file_path").cast(pa.string()).combine_chunks()
        paths = {p: _path(connection, source, p) for p in written.unique().to_pylist()}
        files = pa.array([paths[p] for p in written.to_pylist()], pa.string())
        parts.append(pa.table({"file": files, "pos": rows.column("pos").cast(pa.int64())}))
    return pa.concat_tables(parts)
