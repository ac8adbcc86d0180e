"""The guard: a process that stops services when the one that started them dies, by whatever signal.

The starter holds the write end of the guard's standard input and names there what it is about to start. `keep` lets
the services live on (a finished `reqlake stack up`); end-of-file without it stops them, in reverse order.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from lakehouse.stack.process import stop

_KEEP = "keep"


class Guard:
    """The starter's end: a context that stops what was named inside it, unless `keep` was called."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - this Python, a list of words
            [sys.executable, "-m", "lakehouse.stack.guard", str(folder)],
            stdin=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C of the starter does not reach it
            text=True,
        )

    def watch(self, service: str) -> None:
        """Name a service, before it is started."""
        self._tell(service)

    def keep(self) -> None:
        """Let all that was named live on."""
        self._tell(_KEEP)

    def _tell(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def main(folder: Path) -> None:
    """The guard's end. Its folder is the stack's; services are named on standard input."""
    named = []
    for line in sys.stdin:
        if line.strip() == _KEEP:
            return
        named.append(line.strip())
    for service in reversed(named):
        stop(folder / "run" / f"{service}.json")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
