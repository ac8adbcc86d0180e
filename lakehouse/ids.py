"""String ids and their hashes: the table `<dataset>_ids` (kind, hash, string), written by ingest, read without Spark.

Tables and batches hold the xxhash64 of a string id. The ids table has each string once and translates back; ingest
refuses two strings of one hash by it (spark_jobs/ids.py). It lies in buckets of the hash, so that a batch reads those
of its own ids alone.
"""

from __future__ import annotations

from collections.abc import Iterable

import xxhash
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.expressions import And
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.transforms import BucketTransform
from pyiceberg.types import LongType, NestedField, StringType

from lakehouse.catalog import catalog_errors, ensure_table, load_table
from lakehouse.errors import RawDataError, nearest
from lakehouse.predicates import equal_to, is_in
from lakehouse.settings import Settings
from lakehouse.spec import DatasetSpec

SEED = 42
BUCKETS = 16
SCHEMA = Schema(
    NestedField(1, "kind", StringType(), required=True, doc="user_id, request_id or item_id"),
    NestedField(2, "hash", LongType(), required=True, doc="the id as the tables hold it"),
    NestedField(3, "string", StringType(), required=True, doc="the id as the raw log names it"),
)


def hashed(text: str) -> int:
    """A string id as the tables hold it: xxhash64 of its UTF-8, seed 42, as a signed int64 (Spark's `xxhash64`)."""
    value: int = xxhash.xxh64_intdigest(text.encode(), SEED)
    return value - (1 << 64) if value >= 1 << 63 else value


def ensure_ids(catalog: Catalog, spec: DatasetSpec, settings: Settings) -> Table:
    """The dataset's ids table, made where there is none; one that was laid out by kind gets buckets from now on."""
    in_buckets = PartitionSpec(PartitionField(2, 1000, BucketTransform(BUCKETS), "hash_bucket"))
    properties = {"format-version": "2", "reqlake.ids": "1", "write.parquet.compression-codec": "zstd"}
    table = ensure_table(catalog, spec.table("ids"), SCHEMA, settings, partition_spec=in_buckets, properties=properties)
    if not any(isinstance(field.transform, BucketTransform) for field in table.spec().fields):
        try:
            with catalog_errors(settings), table.update_spec() as change:
                for field in table.spec().fields:
                    change.remove_field(field.name)
                change.add_field("hash", BucketTransform(BUCKETS), "hash_bucket")
        except CommitFailedException:  # another job was first
            table.refresh()
    return table


def strings_of(
    catalog: Catalog, spec: DatasetSpec, settings: Settings, kind: str, hashes: Iterable[int]
) -> dict[int, str]:
    """The strings of ids, by id; ids that the table does not have are left out.

    Raises RawDataError for a kind whose strings the spec does not keep, TableMissingError where nothing was ingested.
    """
    if kind not in spec.string_ids:
        kept = ", ".join(spec.string_ids) or "none"
        raise RawDataError(
            f"{spec.name} keeps no strings of {kind!r}.{nearest(kind, spec.string_ids)} Kept are: {kept} (strings of "
            f"the keys that the spec's `ids` lists)"
        )
    wanted = set(hashes)
    table = load_table(catalog, spec.table("ids"), settings)
    rows = table.scan(And(equal_to("kind", kind), is_in("hash", wanted)), selected_fields=("hash", "string")).to_arrow()
    return dict(zip(rows["hash"].to_pylist(), rows["string"].to_pylist(), strict=True))
