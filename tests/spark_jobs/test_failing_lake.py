"""A lake that cannot be written, or whose catalog is locked: one error that says what to do, and nothing half done."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lakehouse.catalog import local_path, open_catalog
from lakehouse.errors import CatalogError
from lakehouse.schema import ensure_request_table
from lakehouse.settings import Settings
from lakehouse.tags import create_tag, reader_lease
from lakehouse.upkeep.files import bare, referenced
from spark_jobs import compact, ingest, orphans
from tests.spark_jobs.conftest import published, rows_of
from tests.spark_jobs.test_expire import lying, nothing_kept
from tests.support.datasets import SPECS, raw_log, reference_requests, write_request_table

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


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB that holds the warehouse."""
    place = tmp_path / "lake" / "warehouse"
    place.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs root: the disk that is full was not tried")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("left", [0, pytest.param(12_000, marks=pytest.mark.exhaustive)])
def test_a_disk_that_is_full_is_named(left: int, small_disk: Path, spark: Any, settings: Settings, write: Any) -> None:
    """With nothing left the first file of a batch fails, with a little a later one."""
    raw = raw_log(SPEC, users=3)
    ingest.run(spark, settings, SPEC, [write(raw.slice(2), "first")])
    before, late, filler = published(settings, SPEC), write(raw.slice(0, 2), "late"), small_disk / "filler"
    space = os.statvfs(small_disk)
    filler.write_bytes(b"x" * max(0, space.f_bavail * space.f_frsize - left))
    for job in (
        lambda: ingest.run(spark, settings, SPEC, [late]),
        lambda: compact.run(spark, settings, SPEC, every=True),
    ):
        with pytest.raises(CatalogError, match=r"(No space left|cannot write).*"):
            job()
    assert published(settings, SPEC) == before
    filler.unlink()
    assert ingest.run(spark, settings, SPEC, [late]).merged_requests == 1
    compact.run(spark, settings, SPEC, every=True)
    assert rows_of(published(settings, SPEC)) == rows_of(reference_requests(raw, SPEC))
    assert set(open_catalog(settings).load_table(SPEC.table()).metadata.refs) == {"main"}
    orphans.run(nothing_kept(settings), SPEC)
    table = open_catalog(settings).load_table(SPEC.table())
    assert {bare(p) for p in lying(table)} == referenced(table)


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


def test_a_table_of_a_clock_that_is_ahead(
    spark: Any, settings: Settings, write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every commit on it is refused by name, PyIceberg's too, after which no Java engine could read the table."""
    raw, now = raw_log(SPEC, users=3), time.time
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: now() + 7200)
        table = write_request_table(settings, SPEC, reference_requests(raw.slice(0, 1), SPEC))
    before, place = table.metadata_location, write(raw)
    for job in (
        lambda: ingest.run(spark, settings, SPEC, [place]),
        lambda: compact.run(spark, settings, SPEC, every=True),
        lambda: create_tag(open_catalog(settings), SPEC, settings, "v1"),
        lambda: reader_lease(open_catalog(settings).load_table(SPEC.table()), "run", settings).__enter__(),
    ):
        with pytest.raises(CatalogError, match=r"ahead of this machine's clock.*nothing was committed. Set the clock"):
            job()
    assert table.refresh().metadata_location == before
    monkeypatch.setattr(time, "time", lambda: now() + 7200)  # by when it is past
    create_tag(open_catalog(settings), SPEC, settings, "v1")
