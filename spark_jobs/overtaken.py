"""A job that another one overtook is done again, on what that one left."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from spark_jobs.errors import MainMovedError
from spark_jobs.report import Steps

TRIES = 5
T = TypeVar("T")


def until_published(steps: Steps, attempt: Callable[[], T]) -> T:
    """What `attempt` gives the first time that no other job publishes meanwhile. Raises the last MainMovedError."""
    for _ in range(TRIES - 1):
        try:
            return attempt()
        except MainMovedError:
            steps.say("Another job published meanwhile: once more on what it left")
    return attempt()
