"""The import arrows of the house, read from the source, so that an import inside a function counts as well."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("lakehouse", "spark_jobs", "feature_reader", "training", "serving", "reqlake")
MAY_IMPORT = {
    "lakehouse": set(),
    "spark_jobs": {"lakehouse"},
    "feature_reader": {"lakehouse"},
    "training": {"feature_reader", "lakehouse"},
    "serving": {"training", "feature_reader", "lakehouse"},
    "reqlake": {*PACKAGES},
}
NEVER = {
    "lakehouse": {"pyspark", "torch"},
    "spark_jobs": {"torch"},
    "feature_reader": {"pyspark"},
    "training": {"pyspark"},
    "serving": {"pyspark"},
}
BARE = ("training/ops", "training/models")  # run on a GPU machine with torch and triton alone


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Every module that a file imports, anywhere in it, with its line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            yield node.lineno, node.module or ""


def files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_along_the_arrows(package: str) -> None:
    allowed = MAY_IMPORT[package] | {package}
    forbidden = ({*PACKAGES, "tests", "benchmarks"} - allowed) | NEVER.get(package, set())
    assert files(package)
    wrong = [
        f"{p}:{line} {name}" for p in files(package) for line, name in imports(p) if name.split(".")[0] in forbidden
    ]
    assert wrong == []


@pytest.mark.parametrize("folder", BARE)
def test_kernels_and_models_import_torch_and_triton_alone(folder: str) -> None:
    allowed = sys.stdlib_module_names | {"torch", "triton", "training"}
    assert files(folder)
    wrong = [
        f"{p}:{line} {name}" for p in files(folder) for line, name in imports(p) if name.split(".")[0] not in allowed
    ]
    wrong += [
        f"{p}:{line} {name}"
        for p in files(folder)
        for line, name in imports(p)
        if name.startswith("training") and not name.startswith(("training.ops", "training.models"))
    ]
    assert wrong == []


def test_package_above_a_bare_folder_is_as_bare() -> None:
    """`import training.ops` runs `training/__init__.py` first."""
    assert {name for _, name in imports(ROOT / "training" / "__init__.py")} <= sys.stdlib_module_names


def test_files_hold_one_idea() -> None:
    """No file over 400 lines, none named for what it does not say."""
    nothing = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "managers"}
    for folder in (*PACKAGES, "tests", "benchmarks"):
        for path in files(folder):
            assert len(path.read_text(encoding="utf-8").splitlines()) <= 400, f"{path} is too long"
            assert path.stem not in nothing, f"{path}: the name says nothing"
