"""Fixtures that every package's tests share."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from lakehouse.settings import Settings, load_settings

# Its defaults bet on an idle machine: 200 ms an example.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")

# A run in the background of a script is born deaf to Ctrl-C, and so would be all that it starts: some tests send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# What shares servers or the small demo stays on one worker. The longest begin first, so that none is alone at the end.
TOGETHER = (("tests/docs/", "tests/reqlake/demo/"), ("tests/stack/",))
LONG = ("tests/spark_jobs/", "tests/training/")
BEGAN = time.monotonic()
ENDED = pytest.StashKey[list[str]]()


def place(nodeid: str) -> int:
    """Which group of TOGETHER a test belongs to; their number for one of none, one more for what is short as well."""
    alone = len(TOGETHER) + (not nodeid.startswith(LONG))
    return next((i for i, folders in enumerate(TOGETHER) if nodeid.startswith(folders)), alone)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Groups in their order, then long files, then the rest."""
    items.sort(key=lambda item: place(item.nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file stays on one worker, and so does a group. (`--dist loadgroup` of xdist 3.8 has no effect on pytest 9.)"""
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return str(place(nodeid)) if place(nodeid) < len(TOGETHER) else nodeid.partition("::")[0]

    config.option.loadscopereorder = False
    return Together(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:  # noqa: ARG001
    """Note when a worker has nothing more to do."""
    node.config.stash.setdefault(ENDED, []).append(f"{node.gateway.id} {time.monotonic() - BEGAN:.0f} s")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say it: a worker that is alone for minutes holds a group or a file that should be split."""
    if ended := terminalreporter.config.stash.get(ENDED, []):
        terminalreporter.write_line(f"workers ended: {', '.join(ended)}")


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """An embedded lake of its own, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return load_settings(home=tmp_path / "lake")
