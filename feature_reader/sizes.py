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
    candidates = size = ragged = 0
    for field in fields:
        listed = field.listed
        width = field.dtype.itemsize + (4 if field.element == "string" else 0)
        for leaf in footer.leaves[footer.present[field.field_id]]:
            count = metadata.column(leaf).num_values if listed or field.group is not None else rows
            candidates = count if field.name == ANCHOR else candidates
            size += count * width + (rows * OFFSET_BYTES if listed else 0)
            ragged += listed == 2
    return candidates, size + ragged * candidates * OFFSET_BYTES
