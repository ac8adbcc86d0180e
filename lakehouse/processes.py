"""Names of hosts and processes, for leases and branches that outlive their holder."""

from __future__ import annotations

import os
import re
import socket


def this_host() -> str:
    """This machine's name in letters and digits, at most 24."""
    return re.sub("[^a-z0-9]", "", socket.gethostname().lower())[:24] or "host"


def is_alive(pid: int) -> bool:
    """Whether this machine has such a process, whoever's it is."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
