"""The stack's folder: which ports and passwords, and where things lie.

stack/stack.json     ports and addresses, no passwords
stack/secrets.json   passwords, mode 600, made once at random
stack/run/*.json     one pid record a running service
stack/logs/*.log     what each service wrote
stack/postgres, s3, trino   their data
"""

from __future__ import annotations

import fcntl
import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lakehouse.stack.errors import StackError
from lakehouse.stack.ports import LOOPBACK, free_ports, is_free
from lakehouse.stack.process import write_private

BUCKET, CATALOG_NAME, DATABASE, DATABASE_USER, REGION = "lake", "lake", "lake", "lake", "us-east-1"
SERVICE_USER, ANALYST = "reqlake", "analyst"
_SECRETS = ("postgres", "s3_access_key", "s3_secret_key")
_FORMAT = 1


@dataclass(frozen=True)
class Stack:
    """One stack: its folder, its ports by name (`postgres`, `s3`, `s3_filer`, …, `trino`) and its passwords."""

    folder: Path
    ports: Mapping[str, int] = field(default_factory=dict)
    passwords: Mapping[str, str] = field(default_factory=dict, repr=False)

    def record(self, service: str) -> Path:
        """Where the service's pid is on record."""
        return self.folder / "run" / f"{service}.json"

    def log(self, service: str) -> Path:
        """Where the service's output goes."""
        return self.folder / "logs" / f"{service}.log"

    def data(self, service: str) -> Path:
        """Where the service keeps its data."""
        return self.folder / service

    @property
    def postgres_uri(self) -> str:
        """The catalog's database, with its password."""
        password = self.passwords["postgres"]
        return f"postgresql://{DATABASE_USER}:{password}@{LOOPBACK}:{self.ports['postgres']}/{DATABASE}"

    @property
    def s3_endpoint(self) -> str:
        """The S3 server's address."""
        return f"http://{LOOPBACK}:{self.ports['s3']}"

    @property
    def trino_uri(self) -> str:
        """The Trino server's address."""
        return f"http://{LOOPBACK}:{self.ports['trino']}"

    @property
    def warehouse(self) -> str:
        """Where tables lie."""
        return f"s3://{BUCKET}/warehouse"

    def settings(self, services: tuple[str, ...]) -> dict[str, dict[str, Any]]:
        """The settings that make every engine use these services: sections of `reqlake.toml`."""
        sections: dict[str, dict[str, Any]] = {}
        if "postgres" in services:
            sections["catalog"] = {"type": "sql", "name": CATALOG_NAME, "uri": self.postgres_uri}
        if "s3" in services:
            sections.setdefault("catalog", {})["warehouse"] = self.warehouse
            sections["s3"] = {
                "endpoint": self.s3_endpoint,
                "region": REGION,
                "access_key": self.passwords["s3_access_key"],
                "secret_key": self.passwords["s3_secret_key"],
                "path_style": True,
            }
        if "trino" in services:
            sections["trino"] = {"uri": self.trino_uri}
        return sections


def open_stack(folder: Path) -> Stack:
    """The stack in a folder, its passwords made where there are none. Raises StackError."""
    folder = folder.expanduser().resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "secrets.json"
        if not file.exists():
            write_private(file, json.dumps({name: secrets.token_urlsafe(24) for name in _SECRETS}))
    except OSError as error:
        raise StackError(
            f"cannot write {error.filename}: {error.strerror}. Choose another folder, or free some"
        ) from error
    return replace(read_stack(folder), passwords=_read(file))


def read_stack(folder: Path) -> Stack:
    """The stack as its folder tells, without passwords; one without ports where nothing was ever started."""
    folder = folder.expanduser().resolve()
    file = folder / "stack.json"
    kept: dict[str, Any] = _read(file) if file.exists() else {"format": _FORMAT, "ports": {}}
    if kept.get("format") != _FORMAT:
        raise StackError(f"{file} is of format {kept.get('format')!r}, reqlake here knows {_FORMAT}: upgrade reqlake")
    return Stack(folder, kept["ports"])


def choose_ports(stack: Stack, names: tuple[str, ...]) -> Stack:
    """The stack with a free port for each name: the known ones where they are free, so that addresses stay."""
    ports = {name: stack.ports[name] for name in names if name in stack.ports and is_free(stack.ports[name])}
    missing = [name for name in names if name not in ports]
    ports |= dict(zip(missing, free_ports(len(missing)), strict=True))
    stack = replace(stack, ports={**stack.ports, **ports})
    addresses = {
        name: address for name, address in (("s3", "s3_endpoint"), ("trino", "trino_uri")) if name in stack.ports
    }
    write_private(
        stack.folder / "stack.json",
        json.dumps(
            {
                "format": _FORMAT,
                "ports": dict(stack.ports),
                "addresses": {name: getattr(stack, address) for name, address in addresses.items()},
            },
            indent=2,
        ),
    )
    return stack


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One `up` or `down` at a time; the lock dies with its holder."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StackError(f"cannot read {file}: {error}. Mend it, or remove the folder {file.parent}") from error
    if not isinstance(found, dict):
        raise StackError(f"cannot read {file}: it holds no JSON object. Remove the folder {file.parent}")
    return found
