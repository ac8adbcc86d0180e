"""The catalog's errors, and the request table that the spec makes."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from pyiceberg.catalog import Catalog

from lakehouse.catalog import local_path, open_catalog
from lakehouse.errors import CatalogError, FormatError, TableMissingError
from lakehouse.schema import FORMAT, arrow_schema, ensure_request_table, iceberg_schema, open_request_table, table_spec
from lakehouse.settings import Settings, load_settings
from lakehouse.spec import DatasetSpec
from tests.support.datasets import SPECS


@pytest.fixture
def catalog(settings: Settings) -> Catalog:
    return open_catalog(settings)


@pytest.mark.parametrize("name", SPECS)
def test_table_follows_the_spec_and_carries_it(name: str, catalog: Catalog, settings: Settings) -> None:
    spec = SPECS[name]
    table = ensure_request_table(catalog, spec, settings)
    assert [f.name for f in table.schema().fields] == [c.name for c in spec.columns()]
    assert [f.field_id for f in table.schema().fields] == list(range(1, len(spec.columns()) + 1))
    assert table.schema().as_arrow().names == arrow_schema(spec).names
    assert table_spec(table) == spec
    assert ensure_request_table(catalog, spec, settings).metadata.table_uuid == table.metadata.table_uuid


def test_field_ids_depend_on_the_spec_alone() -> None:
    spec = SPECS["video"]
    assert iceberg_schema(spec) == iceberg_schema(DatasetSpec.model_validate(spec.model_dump()))


def test_another_spec_under_the_same_name_is_refused(catalog: Catalog, settings: Settings) -> None:
    ensure_request_table(catalog, SPECS["feed"], settings)
    other = SPECS["feed"].model_copy(update={"doc": "changed"})
    with pytest.raises(FormatError, match=r"reqlake\.feed_requests has spec .*spec apply"):
        ensure_request_table(catalog, other, settings)


def test_newer_and_foreign_tables_are_refused(catalog: Catalog, settings: Settings) -> None:
    spec = SPECS["feed"]
    table = ensure_request_table(catalog, spec, settings)
    with table.transaction() as change:
        change.set_properties({FORMAT: "99"})
    with pytest.raises(FormatError, match="table format 99"):
        open_request_table(catalog, spec, settings)
    with table.transaction() as change:
        change.remove_properties(FORMAT)
    with pytest.raises(FormatError, match="not a request table"):
        open_request_table(catalog, spec, settings)


def test_missing_table_suggests_the_nearest(catalog: Catalog, settings: Settings) -> None:
    ensure_request_table(catalog, SPECS["feed"], settings)
    with pytest.raises(TableMissingError, match=r"Did you mean 'reqlake\.feed_requests'"):
        open_request_table(catalog, "reqlake.feed_request", settings)
    with pytest.raises(TableMissingError, match=r"no table nowhere\.feed"):
        open_request_table(catalog, "nowhere.feed", settings)


def test_a_locked_catalog_is_one_clear_error(catalog: Catalog, settings: Settings) -> None:
    path = settings.catalog.uri.removeprefix("sqlite:///")
    held = sqlite3.connect(path)
    held.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(CatalogError, match="locked") as caught:
            ensure_request_table(catalog, SPECS["feed"], settings)
    finally:
        held.close()
    assert path in str(caught.value)
    assert "wait for its commit" in str(caught.value)


def test_a_warehouse_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CatalogError, match="REQLAKE_HOME"):
        open_catalog(load_settings(home=tmp_path / "file" / "lake"))


@pytest.mark.parametrize("uri", ["file:///a/b c", "file:/a/b c", "/a/b c"])
def test_one_place_however_it_is_written(uri: str) -> None:
    assert local_path(uri) == Path("/a/b c")
