"""Errors of the Spark jobs.

ReqlakeError
└── SparkJobError
    ├── JavaMissingError    no Java that Spark 4.1 can run on, and no wheel to take one from
    ├── SessionError        Spark did not start; holds the last lines of its log
    └── BatchRefusedError   the batch as a whole cannot be published; the table is as it was
"""

from __future__ import annotations

from lakehouse.errors import ReqlakeError


class SparkJobError(ReqlakeError):
    """Root of the jobs' errors."""


class JavaMissingError(SparkJobError):
    """No Java that Spark 4.1 can run on."""


class SessionError(SparkJobError):
    """Spark did not start."""


class BatchRefusedError(SparkJobError):
    """The batch as a whole cannot be published; the table is as it was."""
