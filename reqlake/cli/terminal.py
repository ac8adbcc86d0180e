"""The two consoles: results on standard output, progress and notes on standard error."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

PIPED_WIDTH = 110  # a file and a log have no width; at rich's 80 the reports' tables are cut


def out() -> Console:
    """Where results go."""
    piped = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(highlight=False, width=PIPED_WIDTH if piped else None)


def err() -> Console:
    """Where progress and notes go, so that results can be piped."""
    return Console(stderr=True, highlight=False)


@contextmanager
def working(what: str) -> Iterator[None]:
    """A spinner while something takes its time; silent where standard error is no terminal."""
    with err().status(what):
        yield
