"""Where a batch comes from: raw files, or a range of an Iceberg table's snapshots.

Both are made of units that the ledger knows: a file by size and digest, snapshots by the table's uuid and the range.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lakehouse.catalog import load_table, open_catalog
from lakehouse.errors import RawDataError
from lakehouse.settings import Settings
from lakehouse.spec import DatasetSpec
from spark_jobs.direct import arrow
from spark_jobs.files import RawFile, find_files, find_ready
from spark_jobs.raw import RawLog, log_of, open_raw
from spark_jobs.scan import FILE, ROW
from spark_jobs.snapshots import Span, parsed, spans

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

Published = Mapping[str, set[str]]
"""Members by batch id."""


class Unit(Protocol):
    """What a batch is made of."""

    @property
    def member(self) -> str:
        """Its identity in the ledger."""
        ...

    @property
    def name(self) -> str:
        """Its name, for people."""
        ...

    @property
    def path(self) -> str:
        """Where it lies, for people."""
        ...

    @property
    def rows(self) -> int:
        """Its raw rows."""
        ...


class Source(Protocol):
    """Where raw rows come from."""

    @property
    def waiting(self) -> tuple[str, ...]:
        """What is there and not whole yet."""
        ...

    def units(self, published: Published, given: str | None) -> Sequence[Unit]:
        """What is there, in the table already or not; `given` is the batch id that was asked for."""
        ...

    def open(self, units: Iterable[Unit]) -> RawLog:
        """The raw log of some of the units."""
        ...


@dataclass(frozen=True)
class TableRange:
    """Snapshots of an Iceberg table in the catalog: those after `after` (0: the whole table) up to `to`.

    Without `after` those since the last that were ingested, at first the whole table; without `to` up to the current.
    """

    table: str
    after: int | None = None
    to: int | None = None


def source_of(
    spark: SparkSession, settings: Settings, spec: DatasetSpec, given: Sequence[str | Path] | TableRange
) -> Source:
    """The source that paths or a table stand for. Raises RawDataError, TableMissingError."""
    if isinstance(given, TableRange):
        return Snapshots(spark, settings, spec, given)
    files, waiting = find_ready(given, settings.s3)
    return Files(spark, settings, spec, tuple(files), tuple(waiting))


def ingested(
    spark: SparkSession,
    settings: Settings,
    spec: DatasetSpec,
    given: Sequence[str | Path] | TableRange,
    published: Published,
) -> tuple[Source, Sequence[Unit]]:
    """The source of a table that is there, and its units: the files of paths, or a table's ranges that were ingested.

    Raises RawDataError, TableMissingError.
    """
    if not isinstance(given, TableRange):
        files = tuple(find_files(given, settings.s3))
        return Files(spark, settings, spec, files, ()), files
    source = Snapshots(spark, settings, spec, given)
    return source, source.ingested(published)


@dataclass(frozen=True)
class Files:
    """Raw files that were found; those of `waiting` are not whole yet."""

    spark: SparkSession
    settings: Settings
    spec: DatasetSpec
    found: tuple[RawFile, ...]
    waiting: tuple[str, ...]

    def units(self, published: Published, given: str | None) -> Sequence[Unit]:  # noqa: ARG002 - files are what they are
        """Every file."""
        return self.found

    def open(self, units: Iterable[Unit]) -> RawLog:
        """The raw log of some of the files. Raises RawDataError."""
        chosen = {unit.path for unit in units}
        files = [file for file in self.found if file.path in chosen]
        return open_raw(self.spark, self.spec, files, self.settings.s3)


@dataclass(frozen=True)
class Snapshots:
    """A range of a table's snapshots."""

    spark: SparkSession
    settings: Settings
    spec: DatasetSpec
    range: TableRange
    waiting: tuple[str, ...] = field(default=(), init=False)

    def units(self, published: Published, given: str | None) -> Sequence[Unit]:
        """One unit: the range, counted; one that the ledger has where there is nothing new.

        Raises BatchRefusedError for a range that holds more than appends, or has partly been ingested.
        """
        table = load_table(open_catalog(self.settings), self.range.table, self.settings)
        members = set().union(*published.values())
        found = spans(table, self.range.after, self.range.to, members, published.get(given or ""))
        return [RangeUnit(self.range.table, span, self._count(span, members)) for span in found]

    def ingested(self, published: Published) -> Sequence[Unit]:
        """The table's ranges that the ledger holds, counted. Raises RawDataError where there are none."""
        table = load_table(open_catalog(self.settings), self.range.table, self.settings)
        found = parsed(set().union(*published.values()), str(table.metadata.table_uuid))
        if not found:
            raise RawDataError(f"nothing of {self.range.table} was ingested: run `reqlake ingest --table` first")
        return [RangeUnit(self.range.table, span, self._frame(span).count()) for span in found]

    def open(self, units: Iterable[Unit]) -> RawLog:
        """The raw log of ranges, whose rows are of the columns that the table has now. Raises RawDataError."""
        mine = [unit for unit in units if isinstance(unit, RangeUnit)]
        frame = self._frame(mine[0].span)
        schema = arrow(frame.schema)
        raw = frame.select("*", FILE, "_pos")
        for unit in mine[1:]:
            raw = raw.unionByName(self._frame(unit.span).select("*", FILE, "_pos"), allowMissingColumns=True)
        like = [RawFile(unit.path, 0, unit.member, unit.rows, schema) for unit in mine]
        return log_of(self.spec, like, raw.withColumnRenamed("_pos", ROW))

    def _count(self, span: Span, known: set[str]) -> int:
        return 0 if span.member in known else self._frame(span).count()

    def _frame(self, span: Span) -> DataFrame:
        name = f"{self.settings.catalog.in_spark}.{self.range.table}"
        if span.after is None:
            return self.spark.read.option("versionAsOf", str(span.to)).table(name)
        reader = self.spark.read.option("start-snapshot-id", str(span.after))
        return reader.option("end-snapshot-id", str(span.to)).table(name)


@dataclass(frozen=True)
class RangeUnit:
    """A range of snapshots as a batch's member."""

    table: str
    span: Span
    rows: int

    @property
    def member(self) -> str:
        """Its identity in the ledger."""
        return self.span.member

    @property
    def name(self) -> str:
        """The table and the range."""
        return f"{self.table}@{self.span.after or 0}..{self.span.to}"

    @property
    def path(self) -> str:
        """The same."""
        return self.name
