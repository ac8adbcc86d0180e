"""One process (group) a run: two that trained it at once would write each other's checkpoints.

The lock is the kernel's (`flock`), so a killed process leaves none behind; the empty file stays.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from training.errors import TrainingError

LOCK = ".lock"


@contextmanager
def sole_owner(run: Path) -> Iterator[None]:
    """Hold a run's folder. Raises TrainingError where another process holds it."""
    run.mkdir(parents=True, exist_ok=True)
    with (run / LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise TrainingError(
                f"{run} is being trained by another process: wait for its end, or stop it (Ctrl-C keeps a checkpoint)"
            ) from error
        yield
