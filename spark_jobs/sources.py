"""Where a batch comes from: raw files, or a range of an Iceberg table's snapshots.

Both are made of units that the ledger knows: a file by size and digest, snapshots by the table's uuid and the range.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from lakehouse.catalog import load_table, open_catalog
from lakehouse.errors import RawDataError
from lakehouse.settings import Settings
from lakehouse.spec import DatasetSpec
from spark_jobs.direct import arrow
from spark_jobs.files import RawFile, find_files, find_ready
from spark_jobs.raw import RawLog, log_of, open_raw
from spark_jobs.reingest import Change, change_of, touched_where
from spark_jobs.scan import FILE, ROW
from spark_jobs.snapshots import Span, changed, newest, parsed, spans

if TYPE_CHECKING:
    from pyiceberg.table import Table
    from pyspark.sql import DataFrame, SparkSession

OnChange = Literal["refuse", "reingest"]
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

    def change(self, units: Iterable[Unit]) -> Change | None:
        """What they changed of what earlier ones brought; None where they only add."""
        ...


@dataclass(frozen=True)
class TableRange:
    """Snapshots of an Iceberg table in the catalog: those after `after` (0: the whole table) up to `to`.

    Without `after` those since the last that were ingested, at first the whole table; without `to` up to the current.
    `on_change`: whether a range that holds more than appends is refused, or the requests that it touched are made anew.
    """

    table: str
    after: int | None = None
    to: int | None = None
    on_change: OnChange = "refuse"


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

    def change(self, units: Iterable[Unit]) -> Change | None:  # noqa: ARG002 - a file only adds
        """None."""
        return None


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

        Raises BatchRefusedError for a range that holds more than appends, unless `on_change` is `reingest`, and for one
        that has partly been ingested; RawDataError for a changed one whose requests are made of pauses (`gap`).
        """
        table = self._table()
        members = set().union(*published.values())
        follow = self.range.on_change == "reingest"
        found = spans(table, self.range.after, self.range.to, members, published.get(given or ""), changes=follow)
        return [self._unit(table, span, known=span.member in members) for span in found]

    def ingested(self, published: Published) -> Sequence[Unit]:
        """The table's ranges that the ledger holds, counted. Raises RawDataError where there are none."""
        table = self._table()
        found = parsed(set().union(*published.values()), str(table.metadata.table_uuid))
        if not found:
            raise RawDataError(f"nothing of {self.range.table} was ingested: run `reqlake ingest --table` first")
        alone = not any(changed(table, span) for span in found)
        return [RangeUnit(self.range.table, span, self._frame(span).count() if alone else 0) for span in found]

    def open(self, units: Iterable[Unit]) -> RawLog:
        """The raw log of ranges, whose rows are of the columns that the table has now. Raises RawDataError.

        Where one of several changed rows, what they all come to is the table as of the last.
        """
        mine = [unit for unit in units if isinstance(unit, RangeUnit)]
        change = self.change(mine)
        if change is not None:
            return change.log
        table, found = self._table(), [unit.span for unit in mine]
        if any(changed(table, span) for span in found):
            last = newest(table, found)
            whole = self._at(last.to)
            return self._log([RangeUnit(self.range.table, last, whole.count())], [whole])
        return self._log(mine, [self._frame(span) for span in found])

    def change(self, units: Iterable[Unit]) -> Change | None:
        """What a range that holds more than appends changed."""
        return next((unit.change for unit in units if isinstance(unit, RangeUnit) and unit.change is not None), None)

    def _table(self) -> Table:
        return load_table(open_catalog(self.settings), self.range.table, self.settings)

    def _unit(self, table: Table, span: Span, *, known: bool) -> RangeUnit:
        if known:
            return RangeUnit(self.range.table, span, 0)
        if not changed(table, span):
            return RangeUnit(self.range.table, span, self._frame(span).count())
        change = self._change(table, span)
        return RangeUnit(self.range.table, span, change.log.rows, change)

    def _change(self, table: Table, span: Span) -> Change:
        """What a range with more than appends comes to. Raises RawDataError."""
        if self.spec.keys.request_id.gap is not None:
            raise RawDataError(
                f"{self.spec.name}: a request_id by gap is made of a user's whole run of impressions, so that what a "
                f"change of {self.range.table} touches cannot be told: give requests an id, or ingest the table anew"
            )
        where = touched_where(table, span, self.settings.catalog.in_spark)
        unit, ends = RangeUnit(self.range.table, span, 0), [self._at(end) for end in (span.after or 0, span.to)]
        before, after = (self._log([unit], [end.where(where)]) for end in ends)
        return change_of(self.spec, before, after, self._log([unit], ends[1:]))

    def _log(self, units: Sequence[RangeUnit], frames: Sequence[DataFrame]) -> RawLog:
        """The raw log of frames, one a unit."""
        raw, schema = frames[0].select("*", FILE, "_pos"), arrow(frames[0].schema)
        like = [RawFile(unit.path, 0, unit.member, unit.rows, schema) for unit in units]
        for frame in frames[1:]:
            raw = raw.unionByName(frame.select("*", FILE, "_pos"), allowMissingColumns=True)
        return log_of(self.spec, like, raw.withColumnRenamed("_pos", ROW))

    def _frame(self, span: Span) -> DataFrame:
        """The rows that a span of appends brought."""
        if span.after is None:
            return self._at(span.to)
        reader = self.spark.read.option("start-snapshot-id", str(span.after))
        return reader.option("end-snapshot-id", str(span.to)).table(self._name)

    def _at(self, snapshot_id: int) -> DataFrame:
        """All rows as of a snapshot."""
        return self.spark.read.option("versionAsOf", str(snapshot_id)).table(self._name)

    @property
    def _name(self) -> str:
        return f"{self.settings.catalog.in_spark}.{self.range.table}"


@dataclass(frozen=True)
class RangeUnit:
    """A range of snapshots as a batch's member."""

    table: str
    span: Span
    rows: int
    change: Change | None = field(default=None, compare=False)

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
