"""Errors of the Spark jobs.

ReqlakeError
└── SparkJobError
    ├── JavaMissingError    no Java that Spark 4.1 can run on, and no wheel to take one from
    ├── SessionError        Spark did not start; holds the last lines of its log
    ├── BatchRefusedError   the batch as a whole cannot be published; the table is as it was
    │   ├── NothingSoundError  every row of it would go to quarantine
    │   └── MainMovedError  another job published meanwhile, each time that it was tried
    ├── EraseError          an erasure that cannot be done, or was not proved
    ├── BackfillError       a source that does not fit the table
    └── RebucketError       a layout that cannot be had, or a table that was not proved; the name's table is as it was
"""

from __future__ import annotations

from typing import Any

from lakehouse.errors import ReqlakeError


class SparkJobError(ReqlakeError):
    """Root of the jobs' errors."""


class JavaMissingError(SparkJobError):
    """No Java that Spark 4.1 can run on."""


class SessionError(SparkJobError):
    """Spark did not start."""


class BatchRefusedError(SparkJobError):
    """The batch as a whole cannot be published; the table is as it was."""


class NothingSoundError(BatchRefusedError):
    """Every row of the batch would go to quarantine; `condemned` are they."""

    def __init__(self, message: str, condemned: Any) -> None:
        super().__init__(message)
        self.condemned = condemned


class MainMovedError(BatchRefusedError):
    """Another job published while this one was writing, each time that it was tried."""


class EraseError(SparkJobError):
    """An erasure that cannot be done as asked, or whose proof failed."""


class BackfillError(SparkJobError):
    """A backfill's source that does not fit the table; the table is as it was."""


class RebucketError(SparkJobError):
    """A layout that cannot be had as asked, or a table whose proof failed; the table of the name is as it was."""
