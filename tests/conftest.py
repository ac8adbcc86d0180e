"""Fixtures that every package's tests share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lakehouse.settings import Settings, load_settings

# What shares a server, a Spark session or the small demo stays on one worker; the longest begin first.
TOGETHER = (("tests/spark_jobs/",), ("tests/docs/", "tests/reqlake/demo/"), ("tests/stack/",))


def place(nodeid: str) -> int:
    """Which group of TOGETHER a test belongs to; their number for one of none."""
    return next((i for i, folders in enumerate(TOGETHER) if nodeid.startswith(folders)), len(TOGETHER))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Groups in their order, then the rest."""
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


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """An embedded lake of its own, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return load_settings(home=tmp_path / "lake")
