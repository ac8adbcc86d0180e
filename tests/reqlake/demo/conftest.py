"""The demo on a few users, shared with the tests of the docs."""

from __future__ import annotations

import pytest

from tests.reqlake.demo.small import SmallDemo, small_demo


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> SmallDemo:
    """What `reqlake demo` left behind. Not to be changed: others look at it too."""
    return small_demo(tmp_path_factory.getbasetemp() / "small-demo")
