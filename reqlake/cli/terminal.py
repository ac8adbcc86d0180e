"""The two consoles: results on standard output, progress and notes on standard error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console


def out() -> Console:
    """Where results go."""
    return Console(highlight=False)


def err() -> Console:
    """Where progress and notes go, so that results can be piped."""
    return Console(stderr=True, highlight=False)


@contextmanager
def working(what: str) -> Iterator[None]:
    """A spinner while something takes its time; silent where standard error is no terminal."""
    with err().status(what):
        yield
