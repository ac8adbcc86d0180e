"""One demo on a few users, made once for all tests that look at what a demo leaves behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from reqlake.demo.summary import Summary
from tests.support.quick import MASTER, QUICK

# A process of its own, as the command is: its Spark ends with it, and the suite's session is left alone.
CODE = """
from pathlib import Path
from rich.console import Console
from reqlake.demo.run import run_demo
run_demo(Path("build/demo"), Console(width=110), users=60)
"""


@dataclass(frozen=True)
class SmallDemo:
    """`folder` is the current folder that the demo was run in; everything lies in its `build/demo`."""

    folder: Path
    summary: Summary
    said: str

    @property
    def demo(self) -> Path:
        """What `reqlake demo` fills by default."""
        return self.folder / "build/demo"


@cache
def small_demo(folder: Path) -> SmallDemo:
    """Run the demo below `folder`, the first time that it is asked for; a test session names one folder only."""
    folder.mkdir()
    spark = {"SHUFFLE_PARTITIONS": "2", "MASTER": MASTER, "CONF": json.dumps(QUICK)}
    environment = os.environ | {f"REQLAKE_SPARK__{name}": value for name, value in spark.items()}
    done = subprocess.run(
        [sys.executable, "-c", CODE], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    summary = Summary(**json.loads((folder / "build/demo/summary.json").read_text()))
    return SmallDemo(folder, summary, " ".join(done.stdout.split()))
