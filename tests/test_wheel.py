"""The wheel in an empty environment without extras: no Java, no torch, no pandas, and the core still works."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
UV = str(Path(sys.executable).parent / "uv")


def run(*command: str | Path, cwd: Path) -> str:
    """Standard output of a command that has to succeed."""
    env = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHONPATH")}
    done = subprocess.run([str(c) for c in command], cwd=cwd, env=env, text=True, capture_output=True, check=False)
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`bin` of an environment that holds the wheel and its hard dependencies only."""
    folder = tmp_path_factory.mktemp("wheel")
    # Through the sdist, so that nothing is built inside the repository.
    run(UV, "build", "--quiet", "--out-dir", folder / "dist", ROOT, cwd=folder)
    (wheel,) = (folder / "dist").glob("reqlake-*.whl")
    run(UV, "venv", "--quiet", "--python", sys.executable, folder / "env", cwd=folder)
    python = folder / "env" / "bin" / "python"
    run(
        UV, "pip", "install", "--quiet", "--python", python, "--constraint", ROOT / "constraints.txt", wheel, cwd=folder
    )
    return python.parent


@pytest.mark.slow
def test_doctor_says_what_is_missing_and_how_to_get_it(installed: Path, tmp_path: Path) -> None:
    said = run(installed / "reqlake", "doctor", cwd=tmp_path)
    assert "reqlake[spark]" in said
    assert "reqlake[train]" in said


@pytest.mark.slow
def test_spec_check_needs_no_extra(installed: Path, tmp_path: Path) -> None:
    said = run(installed / "reqlake", "spec", "check", ROOT / "reqlake" / "demo" / "movielens.yaml", cwd=tmp_path)
    assert "movielens" in said
    assert "history_item_id" in said


@pytest.mark.slow
def test_reading_needs_no_extra(installed: Path, tmp_path: Path) -> None:
    """`lakehouse` and `feature_reader` import in an environment that has neither Java nor torch."""
    names = "lakehouse.schema, lakehouse.sql, lakehouse.report, feature_reader, reqlake"
    code = f"import sys, {names}; print('torch' in sys.modules)"
    assert run(installed / "python", "-c", code, cwd=tmp_path).strip() == "False"
