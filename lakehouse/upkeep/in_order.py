"""Whether a data file's rows lie in the order of their keys: proved from the values, since manifests may be wrong."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.io import FileIO


def in_order(io: FileIO, path: str, keys: tuple[str, ...]) -> bool:
    """Whether the rows ascend by the keys, the first one deciding; the keys hold no nulls."""
    with pq.ParquetFile(io.new_input(path).open()) as parquet:
        rows = parquet.read(columns=list(keys))
    if len(rows) < 2:
        return True
    wrong = pa.scalar(False)
    for key in reversed(keys):  # a later key matters where the earlier ones are equal
        column = rows[key].combine_chunks()
        later, earlier = column.slice(1), column.slice(0, len(column) - 1)
        wrong = pc.or_(pc.less(later, earlier), pc.and_(pc.equal(later, earlier), wrong))
    broken: pa.Scalar = pc.any(wrong)
    return not broken.as_py()
