"""Trino: one coordinator that is its own worker, on the files under `files/trino`, which compose mounts as well.

Those files name what differs by `${ENV:…}`: Trino fills it in when it reads them, so no password is in any file and
nothing is rendered.
"""

from __future__ import annotations

import json
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from lakehouse.stack.artifacts import cache_folder, trino_home
from lakehouse.stack.errors import ServiceError
from lakehouse.stack.java import java_for_trino
from lakehouse.stack.ports import LOOPBACK
from lakehouse.stack.process import Command
from lakehouse.stack.service import Say, Service
from lakehouse.stack.state import CATALOG_NAME, DATABASE, DATABASE_USER, REGION, SERVICE_USER, Stack

FILES = Path(__file__).parent / "files" / "trino"


def environment(stack: Stack) -> dict[str, str]:
    """Every variable that the files name."""
    return {
        "TRINO_PORT": str(stack.ports["trino"]),
        "TRINO_BIND": LOOPBACK,
        "LAKE_CATALOG": CATALOG_NAME,
        "LAKE_JDBC_URL": f"jdbc:postgresql://{LOOPBACK}:{stack.ports['postgres']}/{DATABASE}",
        "LAKE_DB_USER": DATABASE_USER,
        "LAKE_DB_PASSWORD": stack.passwords["postgres"],
        "LAKE_WAREHOUSE": stack.warehouse,
        "LAKE_S3_ENDPOINT": stack.s3_endpoint,
        "LAKE_S3_REGION": REGION,
        "LAKE_S3_ACCESS_KEY": stack.passwords["s3_access_key"],
        "LAKE_S3_SECRET_KEY": stack.passwords["s3_secret_key"],
    }


def jvm_options(file: Path = FILES / "jvm.config") -> list[str]:
    """The lines of `jvm.config`, as Trino's own launcher reads them."""
    lines = (line.strip() for line in file.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _check(say: Say) -> None:
    java_for_trino(cache_folder())
    trino_home(cache_folder(), say)


def _home() -> Path:
    return trino_home(cache_folder(), lambda _: None)


def _prepare(stack: Stack) -> None:
    """Trino looks for `etc` and `plugin` where it runs, as in its image."""
    data = stack.data("trino")
    data.mkdir(exist_ok=True)
    home = _home()
    for name, target in (("etc", FILES), ("plugin", home / "plugin"), ("secrets-plugin", home / "secrets-plugin")):
        link = data / name
        link.unlink(missing_ok=True)
        link.symlink_to(target)


def _command(stack: Stack) -> Command:
    home, data = _home(), stack.data("trino")
    node = {"node.environment": "reqlake", "node.id": "local", "node.data-dir": str(data)}
    argv = [str(java_for_trino(cache_folder())), *jvm_options(), *(f"-D{name}={value}" for name, value in node.items())]
    argv += ["-Dconfig=etc/config.properties", "-Dlog.levels-file=etc/log.properties"]
    argv += ["-cp", f"{home}/lib/*", "io.trino.server.TrinoServer"]
    return Command(tuple(argv), data, environment(stack))


def _ready(stack: Stack) -> None:
    """Answer a query on the catalog: `/v1/info` says started before the worker has joined."""
    port = stack.ports["trino"]
    if _ask(port, "GET", "/v1/info")["starting"]:
        raise ServiceError("Trino is starting")
    run_statement(port, f"SHOW SCHEMAS FROM {CATALOG_NAME}")


def run_statement(port: int, sql: str) -> list[list[Any]]:
    """The rows of one statement, by Trino's protocol alone (the `trino` client is an extra). Raises ServiceError."""
    page = _ask(port, "POST", "/v1/statement", sql)
    rows: list[list[Any]] = []
    while True:
        if "error" in page:
            raise ServiceError(f"Trino refused {sql!r}: {page['error']['message']}")
        rows += page.get("data", [])
        if "nextUri" not in page:
            return rows
        page = _ask(port, "GET", urlparse(page["nextUri"]).path)


def _ask(port: int, method: str, path: str, body: str | None = None) -> dict[str, Any]:
    connection = HTTPConnection(LOOPBACK, port, timeout=30)
    try:
        connection.request(method, path, body, {"X-Trino-User": SERVICE_USER})
        answer: dict[str, Any] = json.load(connection.getresponse())
    finally:
        connection.close()
    return answer


SERVICE = Service("trino", ("trino",), ("postgres", "s3"), _check, _prepare, _command, _ready, patience=120)
