"""How a batch and a reader show themselves in a notebook. Values of sensitive columns are masked."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from feature_reader.arrays import Array
from feature_reader.batch import Jagged, RequestBatch
from lakehouse.spec import DatasetSpec

if TYPE_CHECKING:
    from feature_reader.reader import Reader

MASK = "***"
SHOWN = 4  # rows, and values of a list


def masked(spec: DatasetSpec) -> frozenset[str]:
    """Columns whose values nobody should read: sensitive features, and keys of sensitive columns."""
    keys = spec.keys
    marked = {
        "user_id": keys.user_id.sensitive,
        "request_id": keys.request_id.sensitive,
        "item_id": keys.item_id.sensitive,
    }
    sensitive = {name for name, hidden in marked.items() if hidden}
    return frozenset(
        sensitive | {f"{name}_raw" for name in sensitive} | {c.name for c in spec.columns() if c.sensitive}
    )


def batch_html(batch: RequestBatch) -> str:
    """Sizes, then a line a column: what it is of, its type and shape, its first values."""
    whole = batch.numpy()
    rows = [
        (name, part, _shape(column), MASK if name in batch.sensitive else _values(column))
        for part, columns in (("request", whole.request), ("candidate", whole.candidates))
        for name, column in columns.items()
    ]
    size = f"<p>R = {batch.R} requests, C = {batch.C} candidates</p>"
    return size + _table(("column", "of", "holds", "first values"), rows)


def reader_html(reader: Reader) -> str:
    """What is read and where the reader stands; nothing is planned for it."""
    names = ", ".join(f"{s.label} @ {s.snapshot_id}" for s in reader.sources)
    rows = [
        ("reads", names),
        ("batches of", f"{reader.batch_size:,} {reader.batch_by}, tail {reader.tail}"),
        ("rank", f"{reader.share.rank} of {reader.share.world_size}"),
        ("order", f"seed {reader.seed}" if reader.shuffle else "as the files have it"),
        ("stands at", f"epoch {reader.epoch}, {reader.requests_consumed:,} requests consumed"),
        ("columns", ", ".join(field.name for field in reader.layout.fields)),
    ]
    if reader.is_planned:
        plan = reader.plan
        where = f"{len(plan.units):,} row groups of {len(plan.files):,} files"
        rows.insert(1, ("plan", f"{plan.requests:,} requests in {where}"))
    return _table(("reader", ""), rows)


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    return (
        f"<table><thead>{_row('th', header)}</thead><tbody>{''.join(_row('td', row) for row in rows)}</tbody></table>"
    )


def _row(tag: str, cells: tuple[str, ...]) -> str:
    inner = "".join(f"<{tag} style='text-align:left'>{escape(cell)}</{tag}>" for cell in cells)
    return f"<tr>{inner}</tr>"


def _shape(column: Array | Jagged) -> str:
    if isinstance(column, Jagged):
        return f"{column.values.dtype} jagged"
    return " ".join([str(column.dtype), *(f"[{n}]" for n in column.shape[1:])])


def _values(column: Array | Jagged) -> str:
    rows = [column.row(i) if isinstance(column, Jagged) else column[i] for i in range(min(SHOWN, len(column)))]
    return "  ".join(_value(row) for row in rows) + ("  …" if len(column) > SHOWN else "")


def _value(row: Any) -> str:
    if np.ndim(row) == 0:
        return f"{row:.4g}" if isinstance(row, np.floating) else str(row)
    inner = ", ".join(_value(value) for value in row[:SHOWN])
    return f"[{inner}{f', … {len(row)}' if len(row) > SHOWN else ''}]"
