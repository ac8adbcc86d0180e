"""From the spec to the request table: schema, partitioning, properties, and the table itself.

The table carries its spec (`reqlake.spec`), so readers need no file beside it.
"""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.transforms import (
    BucketTransform,
    DayTransform,
    IdentityTransform,
    MonthTransform,
    Transform,
    YearTransform,
)
from pyiceberg.types import (
    BooleanType,
    DoubleType,
    FloatType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    NestedField,
    StringType,
    TimestamptzType,
)

from lakehouse.catalog import catalog_errors, ensure_namespace, load_table
from lakehouse.errors import FormatError
from lakehouse.settings import Settings
from lakehouse.spec import Column, DatasetSpec, spec_from_json

FORMAT, SPEC, SPEC_HASH = "reqlake.format", "reqlake.spec", "reqlake.spec-hash"
# Of a table whose spec has changed: `reqlake.spec.<schema id>` before, and the columns that came later.
SPEC_BEFORE, LATER = "reqlake.spec.", "reqlake.later-columns"
FORMAT_VERSION = 1
ICEBERG_ELEMENTS: dict[str, IcebergType] = {
    "bool": BooleanType(),
    "int": IntegerType(),
    "long": LongType(),
    "float": FloatType(),
    "double": DoubleType(),
    "string": StringType(),
    "timestamp": TimestamptzType(),
}
GRAINS: dict[str, Transform[Any, Any]] = {
    "year": YearTransform(),
    "month": MonthTransform(),
    "day": DayTransform(),
}


def iceberg_schema(spec: DatasetSpec) -> Schema:
    """The request table's Iceberg schema. Field ids are stable: columns first, in order, then list elements."""
    columns = spec.columns()
    next_id = len(columns)
    fields = []
    for i, column in enumerate(columns, start=1):
        kind: IcebergType = ICEBERG_ELEMENTS[column.type.element]
        for _ in range((column.type.shape != "scalar") + column.per_candidate):
            next_id += 1
            kind = ListType(element_id=next_id, element_type=kind, element_required=False)
        fields.append(NestedField(i, column.name, kind, required=_required(column), doc=column.doc or None))
    return Schema(*fields)


def arrow_schema(spec: DatasetSpec) -> pa.Schema:
    """The request table's Arrow schema, without field ids."""
    return pa.schema([pa.field(c.name, c.arrow(), nullable=not _required(c)) for c in spec.columns()])


def _required(column: Column) -> bool:
    return not column.nullable and column.role in ("key", "candidate_key")


def partition_spec(spec: DatasetSpec, schema: Schema) -> PartitionSpec:
    """Time grain, then further columns, then `bucket(N, user_id)`."""
    wanted: list[tuple[str, str, Transform[Any, Any]]] = []
    if spec.partition.grain != "none":
        wanted.append(("request_ts", f"request_{spec.partition.grain}", GRAINS[spec.partition.grain]))
    wanted += [(name, f"{name}_value", IdentityTransform()) for name in spec.partition.columns]
    wanted.append(("user_id", "user_bucket", BucketTransform(spec.partition.buckets)))
    return PartitionSpec(
        *(
            PartitionField(
                source_id=schema.find_field(source).field_id,
                field_id=1000 + i,
                transform=transform,
                name=name,
            )
            for i, (source, name, transform) in enumerate(wanted)
        )
    )


def table_properties(spec: DatasetSpec) -> dict[str, str]:
    """What the table says of itself, and how its files are written (docs/decisions/0001-file-layout.md)."""
    properties = {
        FORMAT: str(FORMAT_VERSION),
        SPEC: spec.to_json(),
        SPEC_HASH: spec.hash,
        "format-version": "2",
        "write.parquet.compression-codec": "zstd",
        # Long lists of neighbouring requests overlap: zstd finds that only inside one page, so pages are large.
        "write.parquet.page-size-bytes": str(8 << 20),
        # A dictionary hides the overlap of long lists from zstd: only columns of a few values keep one.
        "write.parquet.dict-size-bytes": str(1 << 10),
        "write.parquet.page-version": "v1",
        "write.metadata.metrics.column.user_id": "full",
        "write.metadata.metrics.column.request_ts": "full",
    }
    listed = [c.name for c in spec.columns() if c.per_candidate or c.type.shape != "scalar"]
    return properties | {f"write.metadata.metrics.column.{name}.element": "none" for name in listed}


def ensure_request_table(catalog: Catalog, spec: DatasetSpec, settings: Settings) -> Table:
    """The spec's request table, made where there is none. Raises FormatError if one is there under another spec."""
    ensure_namespace(catalog, spec.namespace, settings)
    name = spec.table("requests")
    with catalog_errors(settings):
        try:
            table = catalog.load_table(name)
        except NoSuchTableError:
            schema = iceberg_schema(spec)
            return catalog.create_table_if_not_exists(
                name, schema, partition_spec=partition_spec(spec, schema), properties=table_properties(spec)
            )
    check_spec(table, spec)
    return table


def check_spec(table: Table, spec: DatasetSpec) -> None:
    """Raises FormatError for a table that has another spec, or that `check_format` refuses."""
    check_format(table)
    if table.properties.get(SPEC_HASH) != spec.hash:
        name = ".".join(table.name())
        raise FormatError(
            f"{name} has spec {table.properties.get(SPEC_HASH)}, this one is {spec.hash}: see what has changed with "
            f"`reqlake spec plan FILE` and change the table with `reqlake spec apply FILE`, or go on with the table's "
            f"own (`reqlake spec show {name}`)"
        )


def check_format(table: Table) -> None:
    """Raises FormatError for a table that a newer reqlake, or no reqlake at all, has made."""
    name, version = ".".join(table.name()), table.properties.get(FORMAT)
    if version is None:
        raise FormatError(f"{name} is not a request table: it has no property {FORMAT}. Make one with `reqlake ingest`")
    if int(version) > FORMAT_VERSION:
        raise FormatError(f"{name} is of table format {version}, reqlake here reads {FORMAT_VERSION}: upgrade reqlake")


def table_spec(table: Table, schema_id: int | None = None) -> DatasetSpec:
    """The spec that a request table carries; with the id of an older schema, that of its time. Raises FormatError."""
    check_format(table)
    text = table.properties.get(f"{SPEC_BEFORE}{schema_id}") if schema_id != table.schema().schema_id else None
    spec = spec_from_json(text or table.properties[SPEC], f"the spec of {'.'.join(table.name())}")
    return spec if text else _told(spec, table)


def as_in_table(catalog: Catalog, spec: DatasetSpec, settings: Settings) -> DatasetSpec:
    """The spec with what its request table knows of it; as it is where there is no table."""
    with catalog_errors(settings):
        try:
            return _told(spec, catalog.load_table(spec.table()))
        except NoSuchTableError:
            return spec


def _told(spec: DatasetSpec, table: Table) -> DatasetSpec:
    return spec.of_table(later_columns(table), evolved=is_evolved(table))


def later_columns(table: Table) -> frozenset[str]:
    """Columns that came after the table was made: rows and raw files of before do not have them."""
    return frozenset(json.loads(table.properties.get(LATER, "[]")))


def is_evolved(table: Table) -> bool:
    """Whether rows were written under another schema: their `request_hash` is that of their features at the time."""
    return any(name.startswith(SPEC_BEFORE) for name in table.properties)


def open_request_table(catalog: Catalog, spec: DatasetSpec | str, settings: Settings) -> Table:
    """A request table by spec or by full name. Raises TableMissingError, FormatError."""
    table = load_table(catalog, spec if isinstance(spec, str) else spec.table("requests"), settings)
    check_format(table)
    return table
