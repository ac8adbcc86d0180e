"""Read request tables: an Iceberg snapshot becomes batches that hold each request once."""

from feature_reader.batch import Jagged, Origin, Position, RequestBatch
from feature_reader.cache import DiskCache
from feature_reader.dumps import Dump, Replay, dump, load_dump, replay
from feature_reader.errors import (
    DataFileError,
    FilterError,
    MemoryBoundError,
    RanksDisagreeError,
    ReaderError,
    StateError,
    UnsupportedError,
)
from feature_reader.flat import FlatReader, FlatReport
from feature_reader.measure import BenchReport, BenchRow, bench
from feature_reader.origins import trace
from feature_reader.plan import Plan, ReadUnit
from feature_reader.predicates import Predicate, SkipRequests
from feature_reader.reader import Reader
from feature_reader.sources import Source
from feature_reader.stats import ReaderStats

__all__ = [
    "BenchReport",
    "BenchRow",
    "DataFileError",
    "DiskCache",
    "Dump",
    "FilterError",
    "FlatReader",
    "FlatReport",
    "Jagged",
    "MemoryBoundError",
    "Origin",
    "Plan",
    "Position",
    "Predicate",
    "RanksDisagreeError",
    "ReadUnit",
    "Reader",
    "ReaderError",
    "ReaderStats",
    "Replay",
    "RequestBatch",
    "SkipRequests",
    "Source",
    "StateError",
    "UnsupportedError",
    "bench",
    "dump",
    "load_dump",
    "replay",
    "trace",
]
