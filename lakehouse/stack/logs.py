"""What the services wrote: the end of it, and each new line."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from lakehouse.stack.errors import StackError
from lakehouse.stack.state import read_stack

_LONGEST = 300  # of a line in an error message; Trino's stack traces are longer than any screen


def log_tail(file: Path, lines: int = 15) -> str:
    """The last lines of a log, cut to a readable length; empty if there is none."""
    return "\n".join(line[:_LONGEST] for line in _last_lines(file, lines))


def read_logs(
    folder: Path, services: tuple[str, ...], follow: bool = False, lines: int = 20, poll: float = 0.2
) -> Iterator[tuple[str, str]]:
    """(service, line): the last lines of each log, then, with `follow`, each new one for ever. Raises StackError."""
    stack = read_stack(folder)
    files = {name: stack.log(name) for name in services if stack.log(name).exists()}
    if not files:
        raise StackError(f"no logs of {', '.join(services)} in {stack.folder}: `reqlake stack up` starts the services")
    with ExitStack() as opened:
        ends = {
            name: opened.enter_context(file.open(encoding="utf-8", errors="replace")) for name, file in files.items()
        }
        for end in ends.values():
            end.seek(0, os.SEEK_END)
        yield from ((name, line) for name, file in files.items() for line in _last_lines(file, lines))
        while follow:
            new = [(name, line.rstrip("\n")) for name, end in ends.items() for line in end]
            yield from new
            if not new:
                time.sleep(poll)


def _last_lines(file: Path, lines: int) -> list[str]:
    if not file.exists():
        return []
    with file.open("rb") as log:
        start = max(0, file.stat().st_size - 1000 * lines)
        log.seek(start)
        found = log.read().decode("utf-8", "replace").splitlines()
    return found[1 if start else 0 :][-lines:]  # the first one may be cut
