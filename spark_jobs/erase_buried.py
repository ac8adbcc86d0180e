"""Rows that were deleted by position: the late merge of an ingest leaves them in their data files, where nobody reads
them and every proof finds them. Such a partition is written anew, with the rows that are read and without the users'.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pyiceberg.table import Table

from lakehouse.upkeep.health import partition_condition
from lakehouse.upkeep.traces import traces_in
from lakehouse.upkeep.wanted import Wanted
from spark_jobs.alter import alter
from spark_jobs.publish import DELETE_MODE

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

Partition = tuple[int, tuple[Any, ...]]
"""A partition spec's id and the values of its fields."""


def buried(table: Table, wanted: Wanted, snapshot_id: int) -> list[Partition]:
    """Partitions of a snapshot with a data file that has rows deleted by position, and speaks of the users."""
    found: dict[Partition, None] = {}
    for task in table.scan(snapshot_id=snapshot_id).plan_files():
        fields = table.specs()[task.file.spec_id].fields
        partition = (task.file.spec_id, tuple(task.file.partition[i] for i in range(len(fields))))
        if partition not in found and task.delete_files and traces_in(table.io, task.file.file_path, wanted):
            found[partition] = None
    return list(found)


def unearth(spark: SparkSession, table: Table, target: str, partitions: list[Partition], theirs: list[str]) -> None:
    """Write partitions of a table or one of its branches anew, each in one commit, without rows that are theirs."""
    stay = "".join(f" AND NOT coalesce({condition}, false)" for condition in theirs)
    for spec_id, values in partitions:
        where = partition_condition(table, target.partition(".")[0], spec_id, values)
        kept = spark.sql(f"SELECT * FROM {target} WHERE {where}{stay}")
        if kept.isEmpty():
            spark.sql(f"DELETE FROM {target} WHERE {where}")
        else:
            kept.writeTo(target).option("check-nullability", "false").overwritePartitions()


@contextmanager
def files_anew(spark: SparkSession, table: Table, name: str) -> Iterator[None]:
    """Let deletes write files anew for once; a job that dies in here leaves it so, and the next ingest puts it back."""
    mode = table.properties.get(DELETE_MODE)
    if mode != "merge-on-read":
        yield
        return
    alter(spark, name, f"SET TBLPROPERTIES ('{DELETE_MODE}' = 'copy-on-write')")
    try:
        yield
    finally:
        alter(spark, name, f"SET TBLPROPERTIES ('{DELETE_MODE}' = '{mode}')")
