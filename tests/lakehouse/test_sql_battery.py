"""The battery on DuckDB: each query gives the rows that are written beside it."""

from __future__ import annotations

import math
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from lakehouse import sql
from lakehouse.settings import Settings, load_settings
from tests.lakehouse.sql_battery import CASES, Case, write_battery


@pytest.fixture(scope="module")
def battery(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    settings = load_settings(home=Path(tmp_path_factory.mktemp("battery")) / "lake")
    write_battery(settings)
    return settings


def plain(value: Any) -> Any:
    """A value that compares by meaning: NaN equals NaN, floats to 12 digits."""
    if isinstance(value, list | tuple):
        return tuple(plain(v) for v in value)
    if isinstance(value, float):
        return "nan" if math.isnan(value) else float(f"{value:.12g}")
    return value.isoformat() if isinstance(value, datetime) else value


def rows_of(case: Case, found: list[tuple[Any, ...]]) -> list[Any]:
    rows = [plain(row) for row in found]
    return rows if case.ordered else sorted(rows, key=repr)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_query_gives_what_trino_gives(battery: Settings, case: Case) -> None:
    table = sql.query(battery, case.sql)
    found = list(zip(*(column.to_pylist() for column in table.columns), strict=True))
    assert rows_of(case, found) == rows_of(case, case.rows)


def test_the_battery_is_large_and_its_names_are_unique() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 40
