"""The `reqlake` of a page's shell examples, answered by the process that runs the page: one Python, one JVM a page.

A command of its own starts a Python and a JVM, 8 to 20 s of a core, and that is most of what a page would take. So a
script of that name comes first on the PATH and hands its words, folder, environment and open files to this process,
which runs the same `main` with them. README.md's commands, whose page is not served, run as a user's do.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

SHIM = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as line:
    line.connect({address!r})
    told = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(line, [len(told).to_bytes(8, "big")], [0, 1, 2])
    line.sendall(told)
    sys.exit(int(line.recv(8) or b"1"))
"""


class Commands:
    """Answers `reqlake` for the shell blocks that it runs, one command after the other."""

    def __init__(self, folder: Path) -> None:
        self.address = str(folder / "line")
        self.bin = folder / "bin"
        self.bin.mkdir()
        script = self.bin / "reqlake"
        script.write_text(SHIM.format(python=sys.executable, address=self.address))
        script.chmod(0o755)

    def run(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """`subprocess.run`, with this `reqlake` on the PATH."""
        environment = os.environ | {"PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}"}
        done: list[subprocess.CompletedProcess[str]] = []

        def shell() -> None:
            try:
                done.append(subprocess.run(words, env=environment, **options))
            finally:
                with socket.socket(socket.AF_UNIX) as line:  # nobody will ask any more
                    line.connect(self.address)

        with socket.socket(socket.AF_UNIX) as door:
            door.bind(self.address)
            door.listen()
            thread = threading.Thread(target=shell)
            thread.start()
            while self._answer(door):
                pass
            thread.join()
        Path(self.address).unlink()
        return done[0]

    def _answer(self, door: socket.socket) -> bool:
        """Run the next command; False where there is none."""
        line, _ = door.accept()
        with line:
            size, files, _, _ = socket.recv_fds(line, 8, 3)
            if not size:
                return False
            with line.makefile("rb") as told:
                words, folder, environment = json.loads(told.read(int.from_bytes(size, "big")))
            line.sendall(str(run_here(words, folder, environment, files)).encode())
        return True


def run_here(words: list[str], folder: str, environment: dict[str, str], files: list[int]) -> int:
    """`reqlake WORDS` in this process, with another folder, environment and standard files; the exit code."""
    from reqlake.cli import main

    before = dict(os.environ), Path.cwd(), [os.dup(i) for i in range(3)]
    try:
        _become(environment, folder, files)
        try:
            return main(words)
        except SystemExit as ended:
            return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    finally:
        _become(*before)


def _become(environment: dict[str, str], folder: str | Path, files: list[int]) -> None:
    """Take over an environment, a folder and three open files, which are closed."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.stdout.flush()
    sys.stderr.flush()
    for i, file in enumerate(files):
        os.dup2(file, i)
        os.close(file)
