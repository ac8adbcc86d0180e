"""How Spark lays rows into the request table's files: by partition, and in order of their key inside each file.

The order is set through Spark: one that PyIceberg makes trips Iceberg 1.11's rewrite ("Cannot use output sort order").
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyiceberg.table import Table

from spark_jobs.alter import alter

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ORDER = ("user_id", "request_id", "request_hash")


def order_writes(spark: SparkSession, table: Table, name: str) -> None:
    """Give a table its write order, once."""
    names = [table.schema().find_column_name(field.source_id) for field in table.sort_order().fields]
    if tuple(names) != ORDER:
        alter(spark, name, f"WRITE DISTRIBUTED BY PARTITION LOCALLY ORDERED BY {', '.join(ORDER)}")
        table.refresh()
