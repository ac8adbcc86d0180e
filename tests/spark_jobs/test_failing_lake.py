"""A lake that cannot be written, or whose catalog is locked: one error that says what to do, and nothing half done."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from lakehouse.catalog import local_path, open_catalog
from lakehouse.errors import CatalogError
from lakehouse.schema import ensure_request_table
from lakehouse.settings import Settings
from spark_jobs import ingest
from tests.spark_jobs.conftest import published, rows_of
from tests.support.datasets import SPECS, raw_log, reference_requests

pytestmark = pytest.mark.spark
SPEC = SPECS["feed"]


def test_a_warehouse_that_cannot_be_written_is_named(spark: Any, settings: Settings, write: Any) -> None:
    raw = raw_log(SPEC, users=3)
    folder = write(raw)
    table = ensure_request_table(open_catalog(settings), SPEC, settings)
    data = local_path(table.location()) / "data"
    data.write_text("a file where a folder should be")  # root may write into any folder, but not into a file
    with pytest.raises(CatalogError, match=r"warehouse .* cannot be written: .*REQLAKE_HOME"):
        ingest.run(spark, settings, SPEC, [folder])
    assert set(table.refresh().metadata.refs) <= {"main"}
    data.unlink()
    ingest.run(spark, settings, SPEC, [folder])
    assert rows_of(published(settings, SPEC)) == rows_of(reference_requests(raw, SPEC))


def test_a_catalog_that_is_locked_is_named(
    spark: Any, settings: Settings, write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process holds the catalog's file from before the batch is written until the job has given up."""
    folder = write(raw_log(SPEC, users=3))
    holder = sqlite3.connect(Path(settings.catalog.uri.removeprefix("sqlite:///")), isolation_level=None)
    append = ingest.append_batch

    def locked(*given: Any) -> None:
        holder.execute("BEGIN EXCLUSIVE")
        append(*given)

    with monkeypatch.context() as patch:
        patch.setattr(ingest, "append_batch", locked)
        with pytest.raises(CatalogError, match=r"catalog .*locked.*another process"):
            ingest.run(spark, settings, SPEC, [folder])
    holder.execute("ROLLBACK")
    holder.close()
    assert len(published(settings, SPEC)) == 0
    assert not ingest.run(spark, settings, SPEC, [folder]).skipped
    assert set(open_catalog(settings).load_table(SPEC.table()).metadata.refs) == {"main"}
