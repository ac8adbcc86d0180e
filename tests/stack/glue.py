"""AWS Glue as moto answers it: a mock server in a process of its own. The files lie in the stack's S3."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lakehouse.stack.guard import Guard
from lakehouse.stack.ports import LOOPBACK, free_ports, is_free
from lakehouse.stack.process import Command, recorded, spawn


@contextmanager
def mock_glue(folder: Path) -> Iterator[str]:
    """The server's address, for as long as the block lasts; it forgets all databases then."""
    port = free_ports(1)[0]
    server = (sys.executable, "-m", "moto.server", "-H", LOOPBACK, "-p", str(port))
    with Guard(folder) as guard:
        guard.watch("glue")
        spawn(Command(server, folder, {}), folder / "run" / "glue.json", folder / "glue.log")
        deadline = time.monotonic() + 60
        while is_free(port):
            log = (folder / "glue.log").read_text()
            assert recorded(folder / "run" / "glue.json"), f"moto died:\n{log[-2000:]}"
            assert time.monotonic() < deadline, f"moto does not answer:\n{log[-2000:]}"
            time.sleep(0.1)
        yield f"http://{LOOPBACK}:{port}"
