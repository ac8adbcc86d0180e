"""The folder that a page's examples run in: where somebody has just run `reqlake demo`."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.reqlake.demo.small import SmallDemo, small_demo


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> SmallDemo:
    """A demo on a few users."""
    return small_demo(tmp_path_factory.getbasetemp() / "small-demo")


@pytest.fixture(scope="session")
def as_made(demo: SmallDemo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of that folder that no page has touched."""
    return shutil.copytree(demo.folder, tmp_path_factory.mktemp("docs") / "as-made", symlinks=True)


@pytest.fixture
def after_demo(demo: SmallDemo, as_made: Path) -> Path:
    """The folder as the demo left it. It is always the same one, since an Iceberg table knows its own path."""
    shutil.rmtree(demo.folder)
    return shutil.copytree(as_made, demo.folder, symlinks=True)
