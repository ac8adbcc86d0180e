"""What `import reqlake` gives, and what it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import reqlake
from lakehouse import sql
from lakehouse.spec import DatasetSpec


def test_the_public_names() -> None:
    assert reqlake.__all__ == sorted(reqlake.HOMES)
    assert set(reqlake.__all__) == {
        *("DatasetSpec", "Engine", "Jagged", "Reader", "ReqlakeError", "RequestBatch", "Settings", "TrainConfig"),
        *("build_session", "evaluate", "infer_spec", "ingest", "load_settings", "load_spec", "score", "sql", "train"),
    }


@pytest.mark.parametrize("name", reqlake.__all__)
def test_each_name_is_there_and_comes_from_its_home(name: str) -> None:
    found = getattr(reqlake, name)
    assert name in dir(reqlake)
    home = reqlake.HOMES[name].partition(":")[0]
    origin = getattr(found, "__module__", None) or found.__name__
    assert origin.split(".")[0] == home.split(".")[0]


def test_names_are_the_very_objects() -> None:
    assert reqlake.DatasetSpec is DatasetSpec
    assert reqlake.sql.query is sql.query


def test_an_unknown_name_says_which_there_are() -> None:
    with pytest.raises(AttributeError, match=r"'Readr'; it has .*Reader"):
        reqlake.Readr  # noqa: B018


def test_importing_reqlake_imports_nothing_heavy() -> None:
    code = "import sys, reqlake; print([m for m in ('pyarrow', 'torch', 'pydantic', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
