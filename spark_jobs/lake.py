"""What every step of one ingest works with: the session, the settings, the dataset, its tables' names, its progress."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lakehouse.catalog import open_catalog
from lakehouse.settings import Settings
from lakehouse.spec import DatasetSpec
from spark_jobs.report import Steps

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@dataclass
class Lake:
    """One dataset's lake, as one job sees it."""

    spark: SparkSession
    settings: Settings
    spec: DatasetSpec
    steps: Steps

    def __post_init__(self) -> None:
        self.catalog = open_catalog(self.settings)

    def in_spark(self, name: str) -> str:
        """A table's name with its catalog."""
        return f"{self.settings.catalog.in_spark}.{name}"

    @property
    def requests(self) -> str:
        """The request table's name in Spark."""
        return self.in_spark(self.spec.table("requests"))
