"""DuckDB's threads share one open file of a filesystem in Python; their reads do not disturb each other."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.fs import LocalFileSystem

from lakehouse.sql.scan import _wrapped


def test_a_seek_in_one_thread_does_not_move_another(tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(bytes(range(256)))
    with (
        ThreadPoolExecutor(1) as other,
        closing(_wrapped(LocalFileSystem(), "shared").open(tmp_path / "bytes")) as file,
    ):
        file.seek(100)
        assert other.submit(lambda: (file.seek(7), file.read(2))[1]).result() == bytes([7, 8])
        assert file.read(2) == bytes([100, 101])
        assert file.tell() == 102


def test_many_row_groups_are_read_right_by_many_threads(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    values = pa.array(np.random.default_rng(0).integers(0, 1 << 60, 100_000))
    pq.write_table(pa.table({"n": values}), path, row_group_size=1000)
    with duckdb.connect(config={"threads": 4}) as connection:
        connection.register_filesystem(_wrapped(LocalFileSystem(), "shared"))
        read = connection.sql(f"SELECT n FROM read_parquet('shared://{path}')").to_arrow_table()
    assert sorted(read["n"].to_pylist()) == sorted(values.to_pylist())
