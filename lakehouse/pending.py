"""Labels that came before their impression: the table `<dataset>_pending_labels`.

A label waits there until the ingest that brings its impression applies it, at most `label_horizon`
(spark_jobs/pending.py). A value is kept as text, which every label type reads back exactly.
"""

from __future__ import annotations

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException, NoSuchTableError
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import IntegerType, LongType, NestedField, StringType, TimestamptzType

from lakehouse.catalog import catalog_errors, ensure_table
from lakehouse.errors import EvolutionError
from lakehouse.predicates import is_in
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


def rename_waiting(catalog: Catalog, spec: DatasetSpec, settings: Settings) -> int:
    """Let labels that wait under a name of before (`renamed_from`) wait under that of now; how many there were.

    One commit, and none where nothing waits so. Raises EvolutionError where another job writes there meanwhile.
    """
    names = {label.renamed_from: name for name, label in spec.labels.items() if label.renamed_from is not None}
    names = {old: new for old, new in names.items() if old not in spec.labels}
    if not names:
        return 0
    with catalog_errors(settings):
        try:
            table = catalog.load_table(spec.table("pending_labels"))
        except NoSuchTableError:
            return 0
        of_before = is_in("label", names)
        rows = table.scan(row_filter=of_before).to_arrow()
        if not len(rows):
            return 0
        place = rows.schema.get_field_index("label")
        label = pa.array([names[old] for old in rows["label"].to_pylist()], rows.schema.field(place).type)
        renamed = rows.set_column(place, rows.schema.field(place), label)
        try:
            table.overwrite(renamed.select(table.schema().as_arrow().names), overwrite_filter=of_before)
        except CommitFailedException as error:
            raise EvolutionError(
                f"{spec.table('pending_labels')} was changed while its labels were renamed: run `reqlake spec apply` "
                f"again ({error})"
            ) from error
    return len(rows)
