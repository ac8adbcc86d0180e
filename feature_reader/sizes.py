"""How many candidates and decoded bytes a row group has, by the value counts in its footer.

Parquet counts the values of each leaf column, a null or an empty list as one. Manifests hold the same counts, but
writers leave lists out of them, so that the footer has to be read.
"""

from __future__ import annotations

from collections.abc import Iterable

from feature_reader.footers import Footer
from feature_reader.layout import ANCHOR, Field

OFFSET_BYTES = 12  # Arrow's int32 and the batch's int64


def unit_size(footer: Footer, group: int, fields: Iterable[Field]) -> tuple[int, int]:
    """Candidates (a request without any counts as one) and decoded bytes of a row group."""
    metadata = footer.metadata.row_group(group)
    rows = metadata.num_rows
    values = [
        (field, metadata.column(leaf).num_values if field.listed or field.group is not None else rows)
        for field in fields
        for leaf in footer.leaves[footer.present[field.field_id]]
    ]
    candidates = next((count for field, count in values if field.name == ANCHOR), 0)
    size = 0
    for field, count in values:
        width = field.dtype.itemsize + (4 if field.element == "string" else 0)
        offsets = (rows if field.listed else 0) + (candidates if field.listed == 2 else 0)
        size += count * width + offsets * OFFSET_BYTES
    return candidates, size
