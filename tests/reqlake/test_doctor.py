"""`reqlake doctor`: what is there, what is not, and that looking changes nothing."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from lakehouse.catalog import open_catalog
from lakehouse.settings import Settings, load_settings
from reqlake.doctor import Finding, diagnose
from tests.reqlake.cli.conftest import Run, run

__all__ = ["run"]


def found(about: str) -> Finding:
    return next(f for f in diagnose() if f.about == about)


@pytest.mark.usefixtures("settings")
def test_every_extra_java_catalog_and_device_is_reported() -> None:
    about = {f.about for f in diagnose()}
    extras = {f"reqlake[{e}]" for e in ("spark", "quality", "train", "trino", "postgres", "s3", "demo")}
    assert about >= {"python", "reqlake", "java", "catalog", "warehouse", "device"} | extras


def test_a_lake_that_is_not_there_is_fine_and_is_not_made(run: Run, tmp_path: Path) -> None:
    said = run("doctor")
    assert said.code == 0
    assert "not there yet" in said.out
    assert not (tmp_path / "lake").exists()


def test_a_lake_that_is_there_is_counted(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQLAKE_HOME", str(settings.home))
    open_catalog(settings)
    before = Path(settings.catalog.uri.removeprefix("sqlite:///")).read_bytes()
    assert found("catalog").detail.endswith("answers, writable, 0 tables")
    assert Path(settings.catalog.uri.removeprefix("sqlite:///")).read_bytes() == before


@pytest.mark.usefixtures("settings")
def test_a_missing_package_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    from reqlake import doctor

    version = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "pyspark" else version(name))
    spark = found("reqlake[spark]")
    assert (spark.state, spark.remedy) == ("optional", "pip install 'reqlake[spark]'")
    assert "missing: pyspark" in spark.detail


def test_a_locked_catalog_is_broken_and_ends_with_1(run: Run, tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path / "lake")
    open_catalog(settings)
    holder = sqlite3.connect(settings.catalog.uri.removeprefix("sqlite:///"), isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        said = run("doctor")
    finally:
        holder.close()
    assert said.code == 1
    assert "locked" in said.out
    assert "mend catalog" in said.out


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_home_is_broken(run: Run, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert run("doctor").code == 1
    tmp_path.chmod(0o700)


def test_a_home_below_a_file_is_broken(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("REQLAKE_HOME", str(tmp_path / "file" / "lake"))
    said = run("doctor")
    assert said.code == 1
    assert "mend catalog, warehouse" in said.out


def test_a_bad_setting_is_a_finding(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQLAKE_CATALOG__URI", "mysql://somewhere")
    said = run("doctor")
    assert said.code == 1
    assert "mysql://somewhere" in said.out
    assert "mend settings" in said.out


def test_a_catalog_that_does_not_answer_hides_its_password(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQLAKE_CATALOG__URI", "postgresql://user:secret@127.0.0.1:1/db")
    said = run("doctor")
    assert said.code == 1
    assert "secret" not in said.out
