"""What the reader refuses, and why.

ReqlakeError
└── ReaderError           a reader that cannot be built or used as asked
    ├── DataFileError     a data or delete file is missing, truncated, or breaks its table's promises
    ├── FilterError       a row filter that cannot be applied exactly
    ├── MemoryBoundError  a memory bound that cannot hold what the order needs; names the least that can
    ├── RanksDisagreeError  ranks of one run that planned different data
    ├── StateError        a state of another table, snapshot, plan or version; names each difference
    └── UnsupportedError  a table that uses a feature the reader does not apply; never read wrongly instead
"""

from __future__ import annotations

from lakehouse.errors import ReqlakeError


class ReaderError(ReqlakeError):
    """A reader that cannot be built or used as asked."""


class DataFileError(ReaderError):
    """A data or delete file is missing, truncated, or breaks its table's promises."""


class FilterError(ReaderError):
    """A row filter that cannot be applied exactly."""


class MemoryBoundError(ReaderError):
    """A memory bound that cannot hold what the order needs; names the least that can."""


class RanksDisagreeError(ReaderError):
    """Ranks of one run that planned different data."""


class StateError(ReaderError):
    """A state of another table, snapshot, plan or version; names each difference."""


class UnsupportedError(ReaderError):
    """A table that uses a feature the reader does not apply."""
