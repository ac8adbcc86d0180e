"""Names of hosts and processes, for leases and branches that outlive their holder.

A pid alone names nobody for long: after a restart of the machine, or of a container (where a job often has the pid 1
or 7 each time), another process has it. `born` tells them apart.
"""

from __future__ import annotations

import hashlib
import re
import socket
import subprocess
from pathlib import Path


def this_host() -> str:
    """This machine's name in letters and digits, at most 24."""
    return re.sub("[^a-z0-9]", "", socket.gethostname().lower())[:24] or "host"


def start_time(pid: int) -> str | None:
    """When the process began, as a text that only compares equal to itself; None if there is none (or a zombie)."""
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            return None
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return None if fields[0] in "ZX" else f"{boot} {fields[19]}"
    answer = subprocess.run(  # noqa: S603 - a list of words, no shell
        ["/bin/ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False, timeout=60
    )
    state, _, began = answer.stdout.strip().partition(" ")
    return began.strip() if began and not state.startswith("Z") else None


def born(pid: int) -> str | None:
    """When the process began, as eight hexadecimal digits; None if there is none."""
    began = start_time(pid)
    return None if began is None else hashlib.sha256(began.encode()).hexdigest()[:8]


def is_alive(pid: int, when: str | None = None) -> bool:
    """Whether this machine has such a process, whoever's it is; with `when`, the very one that was born then."""
    now = born(pid)
    return now is not None and when in (now, None)
