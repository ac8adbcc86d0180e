"""Fixtures that every package's tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from lakehouse.settings import Settings, load_settings


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Under xdist a file stays on one worker; folders that share a server or a session stay there whole."""
    here = Path(__file__).parent
    for item in items:
        folder = item.path.relative_to(here).parts[0]
        group = folder if folder in ("stack", "spark_jobs", "docs") else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """An embedded lake of its own, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return load_settings(home=tmp_path / "lake")
