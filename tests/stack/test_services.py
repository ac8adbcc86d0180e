"""Postgres and SeaweedFS for real: up, up again, down, killed in between. Trino's own part is in the other files."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import textwrap
import time
import tomllib
from pathlib import Path

import pytest
from pyiceberg.schema import Schema
from pyiceberg.types import LongType, NestedField

from lakehouse.catalog import open_catalog
from lakehouse.settings import load_settings
from lakehouse.stack.control import SERVICES, down, parse_services, status, up
from lakehouse.stack.errors import MissingProgramError, ServiceError, StackError
from lakehouse.stack.logs import read_logs
from lakehouse.stack.process import recorded
from lakehouse.stack.state import Stack, open_stack, read_stack

pytestmark = pytest.mark.integration
BOTH = ("postgres", "s3")


@pytest.fixture
def folder(tmp_path: Path):
    yield tmp_path / "stack"
    down(tmp_path / "stack")


def states(folder: Path) -> dict[str, str]:
    return {one.service: one.state for one in status(folder)}


def listening(pid: int) -> set[str]:
    """The addresses that a process (and its children: the same sockets) listens on, from /proc."""
    links = [str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir()]
    inodes = {link[8:-1] for link in links if link.startswith("socket:")}
    tables = [Path(f"/proc/net/{kind}").read_text().splitlines()[1:] for kind in ("tcp", "tcp6")]
    sockets = [line.split() for table in tables for line in table]
    return {words[1].rpartition(":")[0] for words in sockets if words[3] == "0A" and words[9] in inodes}


def test_a_day_in_the_life(folder: Path, tmp_path: Path) -> None:
    """Up, used, up again (nothing changes), down (nothing runs), up (data and addresses are there), purged."""
    config = tmp_path / "reqlake.toml"
    config.write_text("[ingest]\nmax_bad_share = 0.01\n")

    stack = up(folder, BOTH, config)
    assert states(folder) == {"postgres": "up", "s3": "up", "trino": "down"}
    told = tomllib.loads(config.read_text())
    assert told["ingest"] == {"max_bad_share": 0.01}
    assert told["s3"]["endpoint"] == stack.s3_endpoint
    catalog = open_catalog(load_settings(**told))
    catalog.create_namespace("kept")
    catalog.create_table("kept.numbers", Schema(NestedField(1, "n", LongType())))

    pids = {name: recorded(stack.record(name)) for name in BOTH}
    assert up(folder, BOTH, config) == stack
    assert {name: recorded(stack.record(name)) for name in BOTH} == pids

    assert down(folder) == ["s3", "postgres"]
    assert not any(process.alive for process in pids.values() if process)
    assert down(folder) == []
    assert states(folder) == dict.fromkeys(SERVICES, "down")

    assert up(folder, BOTH, config) == stack
    assert open_catalog(load_settings(**told)).list_tables("kept") == [("kept", "numbers")]
    assert [name for name, _ in read_logs(folder, ("postgres",))]

    down(folder, purge=True)
    assert {path.name for path in folder.iterdir()} == {"lock"}


def test_secrets_are_random_private_and_nowhere_else(stack: Stack) -> None:
    assert (stack.folder / "secrets.json").stat().st_mode & 0o777 == 0o600
    assert all(len(word) >= 24 for word in stack.passwords.values())
    assert not any(word in repr(stack) for word in stack.passwords.values())
    for path in stack.folder.rglob("*"):
        if path.is_file() and path.stat().st_mode & 0o077:
            found = [name for name, word in stack.passwords.items() if word.encode() in path.read_bytes()]
            assert found == [], f"{path} is readable by others and holds {found}"
    for name in SERVICES:
        process = recorded(stack.record(name))
        assert process is not None
        words = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        assert not any(word.encode() in words for word in stack.passwords.values()), "a password on a command line"


def test_everything_listens_on_loopback_alone(stack: Stack) -> None:
    loopback = {"0100007F", "0000000000000000FFFF00000100007F"}
    for name in SERVICES:
        process = recorded(stack.record(name))
        assert process is not None
        found = listening(process.pid)
        assert found, f"{name} listens nowhere"
        assert found <= loopback, f"{name} listens on {found - loopback}"


def test_a_wrong_password_opens_nothing(stack: Stack) -> None:
    import sqlalchemy
    from pyarrow.fs import FileSelector, S3FileSystem

    uri = stack.postgres_uri.replace(stack.passwords["postgres"], "lake").replace("postgresql:", "postgresql+psycopg2:")
    with pytest.raises(sqlalchemy.exc.OperationalError, match="password authentication failed"):
        sqlalchemy.create_engine(uri).connect()
    stranger = S3FileSystem(endpoint_override=stack.s3_endpoint, access_key="lake", secret_key="lake")
    with pytest.raises(OSError, match=r"ACCESS_DENIED|INVALID_ACCESS_KEY|Access Denied"):
        stranger.get_file_info(FileSelector("lake"))


def test_a_taken_port_is_left_to_its_owner(folder: Path, tmp_path: Path) -> None:
    config = tmp_path / "reqlake.toml"
    before = up(folder, ("postgres",), config).ports["postgres"]
    down(folder)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", before))
        other.listen()
        after = up(folder, ("postgres",), config).ports["postgres"]
    assert after != before
    assert f":{after}/lake" in tomllib.loads(config.read_text())["catalog"]["uri"]


def test_data_stay_in_a_folder_that_only_its_owner_may_enter(tmp_path: Path) -> None:
    """As root, Postgres runs as another user, who may not pass a 700 folder such as /root."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    try:
        stack = up(home / "stack", ("postgres",), config=None)
        assert (stack.data("postgres") / "PG_VERSION").exists()
        process = recorded(stack.record("postgres"))
        assert process is not None
        assert Path(f"/proc/{process.pid}").stat().st_uid != 0
    finally:
        down(home / "stack")


STARTER = """
    import os, signal, sys
    from pathlib import Path
    from lakehouse.stack import control
    say = lambda said: (print(said, flush=True), ENDING)
    control.up(Path(sys.argv[1]), ("postgres", "s3"), None, say)
    """


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGKILL])
def test_killed_half_way_it_leaves_no_process(folder: Path, sign: signal.Signals) -> None:
    """The starter dies when Postgres already runs and SeaweedFS is about to."""
    ending = f'"s3" in said and os.kill(os.getpid(), {int(sign)})'
    program = textwrap.dedent(STARTER).replace("ENDING", ending)
    answer = subprocess.run([sys.executable, "-c", program, folder], capture_output=True, text=True, check=False)
    assert "starting s3" in answer.stdout
    deadline = time.monotonic() + 30
    while any((folder / "run").glob("*.json")):
        assert time.monotonic() < deadline, "the guard did not stop the services"
        time.sleep(0.05)
    assert states(folder) == dict.fromkeys(SERVICES, "down")
    up(folder, ("postgres",), config=None)  # and the half-made stack is usable


def test_a_service_that_dies_says_why(folder: Path) -> None:
    up(folder, ("postgres",), config=None)
    down(folder)
    (folder / "postgres" / "postgresql.conf").write_text("shared_buffers = 'plenty'\n")
    with pytest.raises(ServiceError, match="postgres did not start") as told:
        up(folder, ("postgres",), config=None)
    assert "shared_buffers" in str(told.value)
    assert str(folder / "logs" / "postgres.log") in str(told.value)


def test_data_of_another_postgres_are_not_touched(folder: Path) -> None:
    up(folder, ("postgres",), config=None)
    down(folder)
    (folder / "postgres" / "PG_VERSION").write_text("9\n")
    with pytest.raises(MissingProgramError, match=r"made by Postgres 9.*install postgresql-9"):
        up(folder, ("postgres",), config=None)


def test_the_folder_tells_what_is_wrong_with_it(tmp_path: Path) -> None:
    folder = tmp_path / "stack"
    folder.mkdir()
    (folder / "stack.json").write_text("{")
    with pytest.raises(StackError, match=r"cannot read .*stack\.json"):
        read_stack(folder)
    (folder / "stack.json").write_text(json.dumps({"format": 99, "ports": {}}))
    with pytest.raises(StackError, match="format 99"):
        open_stack(folder)


def test_unknown_services_are_named() -> None:
    assert parse_services("postgres, s3") == BOTH
    assert parse_services("") == ()
    with pytest.raises(StackError, match=r"no service 'trinoo'\. Did you mean 'trino'\?"):
        parse_services("postgres,trinoo")


def test_logs_of_a_stack_that_never_ran(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="reqlake stack up"):
        list(read_logs(tmp_path, ("postgres",)))
