"""One JVM for all Spark tests; each test has a session and an embedded lake of its own in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakehouse.catalog import open_catalog
from lakehouse.settings import Settings, load_settings
from lakehouse.spec import DatasetSpec
from spark_jobs.session import build_session
from tests.support.quick import MASTER, QUICK

HASHES = {"request_hash", "request_rank", "candidate_rank", "request_version", "candidate_version"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """py4j leaves its sockets to the garbage collector."""
    for item in items:
        if "spark_jobs" in item.path.parts:
            for warning in ("pytest.PytestUnraisableExceptionWarning", "ResourceWarning"):
                item.add_marker(pytest.mark.filterwarnings(f"ignore:.*unclosed.*socket.*:{warning}"))
                item.add_marker(pytest.mark.filterwarnings(f"ignore:.*socket.socket.*:{warning}"))


@pytest.fixture(scope="session")
def jvm() -> Iterator[None]:
    yield
    from pyspark import SparkContext

    if SparkContext._active_spark_context is not None:
        SparkContext._active_spark_context.stop()


def embedded(folder: Path) -> Settings:
    """An embedded lake in a folder, for a small JVM."""
    return load_settings(
        home=folder / "lake",
        spark={"master": MASTER, "driver_memory": "1g", "shuffle_partitions": 2, "conf": QUICK},
        ingest={"max_bad_share": 1.0},
    )


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.chdir(tmp_path)
    return embedded(tmp_path)


@pytest.fixture
def spark(jvm: None, settings: Settings) -> Any:  # noqa: ARG001
    return build_session(settings)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """Write a raw table as files `raw/NAME-i.parquet`; returns the folder."""

    def write_files(table: pa.Table, name: str = "part", files: int = 2) -> str:
        folder = tmp_path / f"raw-{name}"
        folder.mkdir(exist_ok=True)
        step = max(1, -(-len(table) // files))
        for i, start in enumerate(range(0, max(1, len(table)), step)):
            pq.write_table(table.slice(start, step), folder / f"{name}-{i}.parquet")
        return str(folder)

    return write_files


def rows_of(table: pa.Table, leave_out: set[str] = HASHES) -> list[dict[str, Any]]:
    """A request table's rows in one order, without columns that a plain reference does not know."""
    rows = [{k: v for k, v in row.items() if k not in leave_out} for row in table.to_pylist()]
    return sorted(rows, key=lambda r: (r["user_id"], r["request_id"], repr(r)))


def published(settings: Settings, spec: DatasetSpec, kind: str = "requests") -> pa.Table:
    """A table as PyIceberg alone reads it."""
    return open_catalog(settings).load_table(spec.table(kind)).scan().to_arrow()
