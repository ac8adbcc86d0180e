"""Run the examples of one Markdown page, in order, in the current folder: `python -m tests.docs.page [--served] PAGE`.

Python blocks of a page share one namespace. A shell block runs under `bash -euo pipefail`; in it, a line that
starts with `make` is only checked to be a target, since the suite cannot call itself. Blocks of any other kind
(`text`, `yaml`, `console`) are shown, not run. With `--served` its `reqlake` runs in this process (served.py).
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.docs.served import Commands

FENCE = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text and the line of the page that it starts on."""

    language: str
    text: str
    line: int


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page that are run."""
    text = page.read_text(encoding="utf-8")
    for match in FENCE.finditer(text):
        if match[1] in ("python", "bash"):
            yield Block(match[1], match[2], text.count("\n", 0, match.start()) + 1)


def run_shell(text: str, run: Callable[..., subprocess.CompletedProcess[str]]) -> str | None:
    """Run a shell block by `run`; what went wrong, or None."""
    kept = []
    for line in text.splitlines():
        words = line.split()
        if words[:1] == ["make"]:
            target = next(w for w in words[1:] if "=" not in w)
            asked = subprocess.run(["make", "-n", "-C", str(ROOT), target], capture_output=True, text=True, check=False)
            if asked.returncode:
                return f"no such target: {line}\n{asked.stderr}"
        else:
            kept.append(line)
    done = run("bash", "-euo", "pipefail", "-c", "\n".join(kept), capture_output=True, text=True, timeout=280)
    return f"exit {done.returncode}\n{done.stdout}\n{done.stderr}" if done.returncode else None


def main(page: Path, run: Callable[..., subprocess.CompletedProcess[str]]) -> int:
    """Run the page, its shell blocks by `run`; the exit code."""
    namespace: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(page):
        problem = None
        if block.language == "bash":
            problem = run_shell(block.text, run)
        else:
            try:
                exec(compile(block.text, f"{page.name}:{block.line}", "exec"), namespace)
            except Exception:  # noqa: BLE001 - the page's own failure is what is reported
                problem = traceback.format_exc()
        if problem:
            print(f"{page}:{block.line}: the {block.language} example failed\n{block.text}\n{problem}")
            return 1
    return 0


def plain(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """A process of its own, and so is each of its commands."""
    return subprocess.run(words, **options)


if __name__ == "__main__":
    *served, name = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(main(Path(name), Commands(Path(folder)).run if served else plain))
