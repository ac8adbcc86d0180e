"""Damage to a table's files that its plan does not see."""

from __future__ import annotations

from pyiceberg.table import Table

from lakehouse.catalog import local_path


def break_pages(table: Table) -> None:
    """Break the first row groups of one file; its footer stays whole."""
    path = sorted(local_path(t.file.file_path) for t in table.scan().plan_files())[1]
    data = bytearray(path.read_bytes())
    pages = len(data) - int.from_bytes(data[-8:-4], "little") - 8
    data[4 : pages // 2] = bytes(pages // 2 - 4)
    path.write_bytes(data)
