"""The command line, run in this process, and a small lake for it to look at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from lakehouse.settings import Settings
from reqlake.cli import main
from tests.support.datasets import SPECS, raw_log, reference_requests, write_request_table


@dataclass(frozen=True)
class Ran:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """Standard output without the terminal's line breaks."""
        return " ".join(self.out.split())


Run = Callable[..., Ran]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`run("spec", "check", file)`: one command in a folder and a lake of its own, at 110 columns."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "110")
    monkeypatch.setenv("REQLAKE_HOME", str(tmp_path / "lake"))

    def call(*args: object) -> Ran:
        capsys.readouterr()
        try:
            code = main([str(a) for a in args])
        except SystemExit as ended:
            code = int(ended.code or 0)
        printed = capsys.readouterr()
        return Ran(code, printed.out, printed.err)

    return call


@pytest.fixture
def lake(settings: Settings) -> Settings:
    """A lake with the `feed` and `shop` datasets."""
    for name in ("feed", "shop"):
        write_request_table(settings, SPECS[name], reference_requests(raw_log(SPECS[name]), SPECS[name]))
    return settings
