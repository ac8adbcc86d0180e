"""One process of the stack: started, recognised again, stopped.

No process runs that is not on record: a shell is forked first and waits on a pipe; its pid and start time go to disk;
only then it is told to `exec` the service. Whoever dies in between leaves a shell that reads end-of-file and exits.
The start time tells a recycled pid from ours, so that a stranger's process is never signalled.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from lakehouse.processes import start_time
from lakehouse.stack.errors import StackError

_WAIT_THEN_EXEC = 'read -r _ && cd "$1" && shift && exec "$@" </dev/null'


@dataclass(frozen=True)
class Command:
    """What to run, where, and with which additions to the environment (secrets go there, not into argv).

    It is stopped by `stop_signal`, and after `patience` seconds by force.
    """

    argv: tuple[str, ...]
    cwd: Path
    env: Mapping[str, str]
    stop_signal: int = signal.SIGTERM
    patience: float = 15.0


@dataclass(frozen=True)
class Process:
    """A pid and when it began, which together name one process for good."""

    pid: int
    started: str
    stop_signal: int = signal.SIGTERM
    patience: float = 15.0

    @property
    def alive(self) -> bool:
        """Whether this very process still runs."""
        return start_time(self.pid) == self.started


def run(
    argv: Sequence[str | Path], text: str = "", cwd: Path | None = None, timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, `text` on its standard input; its exit code is the caller's to judge."""
    return subprocess.run(  # noqa: S603 - a list of words, no shell
        argv, input=text, capture_output=True, text=True, check=False, cwd=cwd, timeout=timeout
    )


def spawn(command: Command, record: Path, log: Path) -> Process:
    """Start the command in a session of its own, its pid in `record` before it runs, its output appended to `log`."""
    record.parent.mkdir(parents=True, exist_ok=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    read_end, write_end = os.pipe()
    try:
        pid = os.posix_spawn(
            "/bin/sh",
            ["/bin/sh", "-c", _WAIT_THEN_EXEC, "reqlake-stack", str(command.cwd), *command.argv],
            {**os.environ, **command.env},
            file_actions=[
                (os.POSIX_SPAWN_DUP2, read_end, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )
        started = start_time(pid)
        if started is None:
            raise StackError(f"{command.argv[0]} could not be started: its shell ended at once, see {log}")
        process = Process(pid, started, command.stop_signal, command.patience)
        write_private(record, json.dumps(asdict(process)))
        os.write(write_end, b"\n")
    finally:
        os.close(read_end)
        os.close(write_end)
    return process


def recorded(record: Path) -> Process | None:
    """The live process that a record names, or None."""
    try:
        process = Process(**json.loads(record.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return process if process.alive else None


def stop(record: Path) -> bool:
    """Stop the recorded process: ask, wait, then kill its group. True if it ran. Blocks until it is gone."""
    process = recorded(record)
    if process is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, process.stop_signal)
        if not _gone(process):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if not _gone(process):
                raise StackError(f"process {process.pid} does not die, not even when killed: see `ps {process.pid}`")
    record.unlink(missing_ok=True)
    return process is not None


def _gone(process: Process) -> bool:
    deadline = time.monotonic() + process.patience
    while process.alive:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    with contextlib.suppress(ChildProcessError):  # ours to bury only where we started it
        os.waitpid(process.pid, os.WNOHANG)
    return True


def write_private(path: Path, text: str) -> None:
    """Replace a file in one step, readable by its owner alone from the first byte on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
