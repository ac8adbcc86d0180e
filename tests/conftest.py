"""Fixtures that every package's tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from lakehouse.settings import Settings, load_settings

# What shares a server, a Spark session or the small demo stays on one worker.
TOGETHER = ("stack", "spark_jobs", "docs", "reqlake/demo")


@pytest.hookimpl(tryfirst=True)  # xdist's own hook reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Under xdist a file stays on one worker, and so does what shares something dear."""
    here = Path(__file__).parent
    for item in items:
        path = item.path.relative_to(here).as_posix()
        group = next((folder for folder in TOGETHER if path.startswith(f"{folder}/")), path)
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """An embedded lake of its own, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return load_settings(home=tmp_path / "lake")
