"""Rows that a stricter rule would not let pass: counted by reading that rule's column, a batch at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.table import Table

from lakehouse.evolution.compare import Tightened


def rows_that_break(table: Table, rule: Tightened) -> list[tuple[str, int]]:
    """What the rule says and how many requests break it, for each of its parts that some do."""
    counts: Counter[str] = Counter()
    for batch in table.scan(selected_fields=(rule.stored,)).to_arrow_batch_reader():
        for what, rows in _breaking(batch.column(0), rule):
            counts[what] += rows
    return [(what, count) for what, count in counts.items() if count]


def _breaking(array: pa.Array, rule: Tightened) -> Iterator[tuple[str, int]]:
    if rule.required:
        values, rows = (array, np.arange(len(array)))
        if rule.column.per_candidate:
            values, rows = _flat(array, rows)
        yield "required", _requests(values.is_null(), rows)
    if rule.max_length is not None:
        lengths = pc.list_value_length(array)
        yield f"max_length {rule.max_length}", int(pc.sum(pc.greater(lengths, rule.max_length)).as_py() or 0)
    if rule.range is not None:
        values, rows = array, np.arange(len(array))
        while pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
            values, rows = _flat(values, rows)
        kind = rule.column.type.element
        # A bound of 0.1 on a 32-bit float means the float nearest to 0.1.
        as_kind = pa.float32() if kind == "float" else pa.float64()
        low, high = (pa.scalar(bound, as_kind) for bound in rule.range)
        values = values.cast(as_kind, safe=False)
        outside = pc.or_(pc.less(values, low), pc.greater(values, high))
        yield f"range {list(rule.range)}", _requests(outside, rows)


def _flat(array: pa.Array, rows: np.ndarray) -> tuple[pa.Array, np.ndarray]:
    """A list's elements and the request of each."""
    return pc.list_flatten(array), rows[pc.list_parent_indices(array).to_numpy(zero_copy_only=False)]


def _requests(mask: pa.Array, rows: np.ndarray) -> int:
    chosen = pc.fill_null(mask, False).to_numpy(zero_copy_only=False)
    return len(np.unique(rows[chosen]))
