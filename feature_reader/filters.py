"""Row filters, applied exactly: Iceberg prunes files by them, the plan then looks into the row groups that remain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from pyiceberg.expressions import AlwaysTrue, BooleanExpression
from pyiceberg.expressions.parser import parse
from pyiceberg.expressions.visitors import bind, extract_field_ids
from pyiceberg.io.pyarrow import expression_to_pyarrow, schema_to_pyarrow
from pyiceberg.schema import Schema

from feature_reader.columns import one_array
from feature_reader.errors import FilterError

ROW = "__row"


class RowFilter:
    """A filter over scalar request columns, bound to a table's schema."""

    def __init__(self, given: str | BooleanExpression, schema: Schema) -> None:
        self.text = str(given)
        try:
            self.expression: BooleanExpression = parse(given) if isinstance(given, str) else given
            bound = bind(schema, self.expression, case_sensitive=True)
            self._ids = extract_field_ids(bound)
        except Exception as error:
            raise FilterError(
                f'row_filter {self.text!r} cannot be read: {error}. Write it as in "request_ts < '
                "'2026-01-01T00:00:00+00:00'\", over scalar request columns"
            ) from error
        for field_id in self._ids:
            name = schema.find_column_name(field_id) or ""
            if not schema.find_type(field_id).is_primitive or "." in name:
                raise FilterError(
                    f"row_filter {self.text!r} uses the list column {name!r}: a row filter keeps or drops whole "
                    "requests, by scalar request columns"
                )
        self._predicate = expression_to_pyarrow(bound, schema)
        self._types = {f.field_id: f for f in schema.fields if f.field_id in self._ids}
        self._arrow = schema_to_pyarrow(schema, include_field_ids=False)

    @property
    def is_always_true(self) -> bool:
        """Whether the filter keeps every row."""
        return isinstance(self.expression, AlwaysTrue)

    def columns(self, present: Mapping[int, str]) -> list[str]:
        """A file's names of the columns to read for `keep`."""
        return [present[i] for i in sorted(self._ids) if i in present]

    def keep(self, table: pa.Table, present: Mapping[int, str]) -> np.ndarray:
        """Row numbers (int64, ascending) of the rows that the filter keeps; a column the file lacks is null there."""
        arrays: dict[str, Any] = {ROW: pa.array(np.arange(table.num_rows))}
        for field_id, field in self._types.items():
            kind = self._arrow.field(field.name).type
            if field_id not in present:
                arrays[field.name] = pa.nulls(table.num_rows, kind)
                continue
            column = one_array(table[present[field_id]])
            arrays[field.name] = column.cast(kind)
        kept = pa.table(arrays).filter(self._predicate)[ROW]
        return np.asarray(kept.to_numpy(), dtype=np.int64)
