"""Errors of serving.

ReqlakeError
└── ServingError      a request or a model that cannot be scored
    └── RequestError  a request that lacks what the model reads; names the field
"""

from __future__ import annotations

from lakehouse.errors import ReqlakeError


class ServingError(ReqlakeError):
    """A request or a model that cannot be scored."""


class RequestError(ServingError):
    """A request that lacks what the model reads, or holds what it cannot."""
