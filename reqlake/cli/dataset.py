"""What DATASET on the command line stands for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table

    from lakehouse.settings import Settings
    from lakehouse.spec import DatasetSpec


def is_file(dataset: str) -> bool:
    """Whether DATASET reads like a spec file rather than a name in the catalog."""
    return dataset.endswith((".yaml", ".yml", ".json")) or Path(dataset).is_file()


def table_name(dataset: str) -> str:
    """The request table's full name: `movielens` is short for `reqlake.movielens_requests`."""
    return dataset if "." in dataset else f"reqlake.{dataset.removesuffix('_requests')}_requests"


def spec_of(dataset: str, settings: Settings) -> DatasetSpec:
    """The spec of a file, or the one that a request table carries. Raises SpecError, TableMissingError, FormatError."""
    from lakehouse.schema import table_spec
    from lakehouse.spec import load_spec

    return load_spec(dataset) if is_file(dataset) else table_spec(open_table(dataset, settings))


def open_table(dataset: str, settings: Settings) -> Table:
    """The request table of a spec file or a name. Raises SpecError, TableMissingError, FormatError."""
    from lakehouse.catalog import open_catalog
    from lakehouse.schema import open_request_table
    from lakehouse.spec import load_spec

    wanted = load_spec(dataset) if is_file(dataset) else table_name(dataset)
    return open_request_table(open_catalog(settings), wanted, settings)


def opened(dataset: str) -> tuple[Catalog, DatasetSpec, Settings]:
    """The catalog, the spec that DATASET's request table carries, and the settings: what maintenance works with.

    Raises SpecError, TableMissingError, FormatError, CatalogError.
    """
    from lakehouse.catalog import open_catalog
    from lakehouse.schema import table_spec
    from lakehouse.settings import load_settings

    settings = load_settings()
    return open_catalog(settings), table_spec(open_table(dataset, settings)), settings


def is_catalog_name(log: str) -> bool:
    """Whether LOG reads like `namespace.table` rather than a path or a pattern."""
    plain = log.replace("_", "").replace(".", "").isalnum()
    return log.count(".") == 1 and plain and not log.endswith(".parquet") and not Path(log).exists()


def snapshot_of(dataset: str, tag: str, settings: Settings) -> int:
    """The snapshot of the request table that a training set pins. Raises TableMissingError for an unknown tag."""
    from lakehouse.catalog import open_catalog
    from lakehouse.schema import table_spec
    from lakehouse.tags import tag_of

    spec = table_spec(open_table(dataset, settings))
    return tag_of(open_catalog(settings), spec, settings, tag).snapshot_of(spec.table())
