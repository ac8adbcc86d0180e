"""Read request tables: an Iceberg snapshot becomes batches that hold each request once."""

from feature_reader.batch import Jagged, Origin, RequestBatch
from feature_reader.errors import (
    DataFileError,
    FilterError,
    MemoryBoundError,
    RanksDisagreeError,
    ReaderError,
    StateError,
    UnsupportedError,
)
from feature_reader.plan import Plan, ReadUnit
from feature_reader.reader import Reader
from feature_reader.stats import ReaderStats

__all__ = [
    "DataFileError",
    "FilterError",
    "Jagged",
    "MemoryBoundError",
    "Origin",
    "Plan",
    "RanksDisagreeError",
    "ReadUnit",
    "Reader",
    "ReaderError",
    "ReaderStats",
    "RequestBatch",
    "StateError",
    "UnsupportedError",
]
