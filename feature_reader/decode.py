"""One row group as Arrow has read it, to the requests and candidates of a batch.

Columns of one sequence, and all columns of the candidates, are parallel lists: they must agree on every row's length
and then share one offsets array. A row whose list is null, or a file without the column, follows its siblings' lengths.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_reader.arrays import offsets_of
from feature_reader.batch import Jagged, RequestBatch
from feature_reader.columns import StringHashes, filled, leaf, one_array, unwrap, vectors
from feature_reader.errors import DataFileError
from feature_reader.layout import ANCHOR, Field, Layout


class Decoder:
    """Decodes row groups by a layout. Safe to use from several threads."""

    def __init__(self, layout: Layout, siblings: Mapping[str, tuple[Field, ...]]) -> None:
        self.layout = layout
        self.siblings = siblings
        self._hashes = StringHashes()

    def needs(self, present: Mapping[int, str]) -> tuple[Field, ...]:
        """The fields to read from a file that has these field ids; more than the layout's where some are missing."""
        fields = [f for f in self.layout.read if f.field_id in present]
        for group in {f.group for f in self.layout.fields if f.group is not None}:
            if not any(f.group == group for f in fields):
                fields += [f for f in self.siblings.get(group, ()) if f.field_id in present][:1]
        return tuple(fields)

    def __call__(self, table: pa.Table, present: Mapping[int, str], where: str) -> RequestBatch:
        """The whole row group as one batch. `present` maps field ids to the file's names; raises DataFileError."""
        arrays = {f.field_id: one_array(table[present[f.field_id]]) for f in self.needs(present)}
        rows = table.num_rows
        request: dict[str, np.ndarray | Jagged] = {}
        lengths: dict[str, np.ndarray] = {}
        for field in self.layout.part("request"):
            array = arrays.get(field.field_id)
            if field.group is not None:
                if field.group not in lengths:
                    lengths[field.group] = self._group_offsets(field.group, arrays, rows)
                values = self._aligned(array, field, lengths[field.group], where)
                request[field.name] = Jagged(leaf(values, field, self._hashes), lengths[field.group])
            else:
                request[field.name] = self._value(array, field, rows, where)
        candidate_offsets, candidates = self._candidates(arrays, rows, where)
        return RequestBatch(request, candidates, candidate_offsets)

    def _candidates(
        self, arrays: Mapping[int, pa.Array], rows: int, where: str
    ) -> tuple[np.ndarray, dict[str, np.ndarray | Jagged]]:
        fields = self.layout.part("candidate")
        if not fields:
            return np.zeros(rows + 1, np.int64), {}
        anchor = next(f for f in self.layout.read if f.name == ANCHOR)
        if anchor.field_id not in arrays:
            raise DataFileError(
                f"{where}: the file has no column {ANCHOR} (field id {anchor.field_id}); is it a request table's?"
            )
        _, offsets = unwrap(arrays[anchor.field_id])
        columns: dict[str, np.ndarray | Jagged] = {}
        for field in fields:
            values = self._aligned(arrays.get(field.field_id), field, offsets, where)
            columns[field.name] = self._value(values, field, int(offsets[-1]), where)
        return offsets, columns

    def _value(self, array: pa.Array | None, field: Field, rows: int, where: str) -> np.ndarray | Jagged:
        """One value per row: scalar [rows], vector [rows, size], or a list."""
        if field.shape == "list":
            if array is None:
                return Jagged(np.zeros(0, field.dtype), np.zeros(rows + 1, np.int64))
            values, offsets = unwrap(array)
            return Jagged(leaf(values, field, self._hashes), offsets)
        if array is None:
            return filled(field, rows)
        if field.shape == "vector":
            return vectors(array, field, self._hashes, where)
        return leaf(array, field, self._hashes)

    def _group_offsets(self, group: str, arrays: Mapping[int, pa.Array], rows: int) -> np.ndarray:
        """Offsets of a sequence: the longest list of its fields in each row, since a null one counts as empty."""
        found = [unwrap(arrays[f.field_id])[1] for f in self.siblings.get(group, ()) if f.field_id in arrays]
        if not found:
            return np.zeros(rows + 1, np.int64)
        if all(np.array_equal(found[0], other) for other in found[1:]):
            return found[0]
        return np.asarray(offsets_of(np.maximum.reduce([np.diff(o) for o in found])))

    def _aligned(self, array: pa.Array | None, field: Field, offsets: np.ndarray, where: str) -> pa.Array:
        """The list column's values, one per entry of the rows that `offsets` [rows + 1] describe."""
        total = int(offsets[-1])
        if array is None:
            return pa.nulls(total, _value_type(field))
        values, own = unwrap(array)
        if np.array_equal(own, offsets):
            return values
        wrong = np.diff(own) != np.diff(offsets)
        null = array.is_null().to_numpy(zero_copy_only=False)
        if (wrong & ~null).any():
            row = int(np.argmax(wrong & ~null))
            siblings = "the request's candidates" if field.part == "candidate" else f"the sequence {field.group!r}"
            raise DataFileError(
                f"{where}, row {row}: {field.name!r} has {own[row + 1] - own[row]} entries, {siblings} "
                f"{offsets[row + 1] - offsets[row]}: lists of one group must be of equal length"
            )
        missing = np.repeat(null & wrong, np.diff(offsets))
        index = pc.if_else(pa.array(missing), pa.scalar(None, pa.int64()), pa.array(np.cumsum(~missing) - 1))
        return values.take(index)


def _value_type(field: Field) -> pa.DataType:
    """Some Arrow type that `leaf`, `unwrap` and `vectors` read as nulls of this field."""
    element = {"string": pa.string(), "timestamp": pa.timestamp("us", tz="UTC")}.get(field.element)
    if element is None:
        element = pa.bool_() if field.element == "bool" else pa.from_numpy_dtype(field.dtype)
    return element if field.shape == "scalar" or field.group is not None else pa.list_(element)
