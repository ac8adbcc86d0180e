"""Labels that came before their impression: the table `<dataset>_pending_labels`.

A label waits there until the ingest that brings its impression applies it, at most `label_horizon`
(spark_jobs/pending.py). A value is kept as text, which every label type reads back exactly.
"""

from __future__ import annotations

from pyiceberg.catalog import Catalog
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import IntegerType, LongType, NestedField, StringType, TimestamptzType

from lakehouse.catalog import ensure_table
from lakehouse.settings import Settings
from lakehouse.spec import DatasetSpec

SCHEMA = Schema(
    NestedField(1, "user_id", LongType(), required=True, doc="the impression's user"),
    NestedField(2, "request_id", LongType(), required=True, doc="its request"),
    NestedField(3, "item_id", LongType(), required=True, doc="its item"),
    NestedField(4, "position", IntegerType(), doc="its position, where that is part of the key"),
    NestedField(5, "label", StringType(), required=True, doc="the label's name"),
    NestedField(6, "value", StringType(), required=True, doc="its value, as text"),
    NestedField(7, "time", TimestamptzType(), required=True, doc="when it was set"),
    NestedField(8, "batch_id", StringType(), required=True, doc="the batch that brought it"),
    NestedField(9, "file", StringType(), required=True, doc="its raw file"),
    NestedField(10, "row", LongType(), required=True, doc="its number in the file, from 0"),
    NestedField(11, "raw", StringType(), doc="the raw row as JSON, every column"),
    NestedField(12, "waiting_since", TimestamptzType(), required=True, doc="when the batch came"),
)


def ensure_pending(catalog: Catalog, spec: DatasetSpec, settings: Settings) -> Table:
    """The dataset's table of waiting labels, made where there is none."""
    # By batch: a batch that is done again replaces what it left.
    by_batch = PartitionSpec(PartitionField(8, 1000, IdentityTransform(), "batch"))
    properties = {"format-version": "2", "reqlake.pending-labels": "1"}
    return ensure_table(
        catalog, spec.table("pending_labels"), SCHEMA, settings, partition_spec=by_batch, properties=properties
    )
