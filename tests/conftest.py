"""Fixtures that every package's tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from lakehouse.settings import Settings, load_settings


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """An embedded lake of its own, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return load_settings(home=tmp_path / "lake")
