"""ALTER TABLE beside other writers: Iceberg repeats a commit of rows that another overtook, but none of these.

Each of them sets something to what it says, or sees to it that something is gone, so it may be said again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spark_jobs.errors import MainMovedError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

OVERTAKEN = ("CommitFailedException", "Table metadata refresh is required")
TRIES = 10


def alter(spark: SparkSession, name: str, change: str) -> None:
    """`ALTER TABLE name change`. Raises MainMovedError where another job commits each time."""
    from py4j.protocol import Py4JError  # type: ignore[import-untyped]
    from pyspark.errors import PySparkException

    for _ in range(TRIES):
        try:
            spark.sql(f"ALTER TABLE {name} {change}")
        except (PySparkException, Py4JError) as error:
            if not any(mark in str(error) for mark in OVERTAKEN):
                raise
            last = error
        else:
            return
    raise MainMovedError(f"{name} was changed by another job {TRIES} times in a row: run this again") from last
