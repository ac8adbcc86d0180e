"""One read unit of a plan, or a slice of it, as a decoded batch; what cannot be read is left out as far as allowed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from feature_reader.batch import RequestBatch
from feature_reader.cache import KeptEntries
from feature_reader.damage import Damage, decode_around
from feature_reader.errors import DataFileError
from feature_reader.pipeline import LOST
from feature_reader.plan import Plan, ReadUnit
from feature_reader.schedule import Slice
from feature_reader.slices import Group, SliceReader
from feature_reader.sources import PinnedSource
from feature_reader.stats import ReaderStats


class UnitReader:
    """Reads the units of one plan during one iteration. Safe to use from several threads."""

    def __init__(
        self, plan: Plan, sources: Sequence[PinnedSource], kept: KeptEntries | None, damage: Damage, stats: ReaderStats
    ) -> None:
        self._plan, self._sources, self._kept, self._damage, self._stats = plan, sources, kept, damage, stats
        self._slices = SliceReader()

    def close(self) -> None:
        """Close the file that slices are read from."""
        self._slices.close()

    def __call__(self, number: int, part: Slice | None = None) -> RequestBatch:
        """A unit as a batch of all its rows, or of a part of them; LOST where none can be read."""
        unit = self._plan.units[number]
        path, source = self._plan.files[unit.file], source_of(unit, self._plan, self._sources)
        rows = np.arange(unit.rows) if part is None else part.rows
        try:
            with self._stats.timed("read_s"):
                columns = source.columns_of(path)
                if part is None:
                    table = source.files.read(path, unit.row_group, columns, self._kept)
                else:
                    table = self._slices.read(Group(source.files, path, unit.row_group, columns, self._kept), part)
        except DataFileError as error:
            self._lose(unit, rows, error)
            return LOST
        with self._stats.timed("decode_s"):
            batch = self._decode(source, unit, table, rows)
        self._stats.add(
            units=part is None,
            slices=part is not None,
            read_bytes=source.stored_bytes(path, unit.row_group),
            decoded_bytes=batch.nbytes,
        )
        return batch

    def stand_in(self) -> RequestBatch:
        """One request of the plan without weight, for a step of which this rank could read nothing."""
        for number in range(len(self._plan.units)):
            unit = self(number)
            if unit.R:
                return replace(unit.slice(0, 1).map(np.copy), padding=1)
        raise DataFileError("none of the plan's row groups can be read: there is nothing to train on")

    def _decode(self, source: PinnedSource, unit: ReadUnit, table: pa.Table, rows: np.ndarray) -> RequestBatch:
        path = self._plan.files[unit.file]
        present, where = source.files.footer(path).present, f"{path}, row group {unit.row_group}"
        try:
            batch: RequestBatch | None = source.decoder(table, present, where)
            self._damage.read(path, unit.row_group, rows)
        except DataFileError as error:
            if not self._damage.allowed:
                raise
            batch, bad = decode_around(lambda part: source.decoder(part, present, where), table)
            self._lose(unit, rows[bad], error)
        return LOST if batch is None else batch

    def _lose(self, unit: ReadUnit, rows: np.ndarray, error: DataFileError) -> None:
        """Leave out these rows, of which the plan may have left out some anyhow."""
        wanted = rows if unit.keep is None else np.intersect1d(rows, unit.keep)
        if len(wanted):
            self._damage.lose(self._plan.files[unit.file], unit.row_group, wanted, error)


def source_of(unit: ReadUnit, plan: Plan, sources: Sequence[PinnedSource]) -> PinnedSource:
    """The table that a unit is of."""
    return sources[plan.tables[unit.file]]
