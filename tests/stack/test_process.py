"""Processes that are on record before they run, and recognised again for what they are."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lakehouse.stack.process import Command, Process, recorded, spawn, start_time, stop


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Start a Python program under record `NAME.json`; all are stopped in the end."""

    def begin(program: str, name: str = "one", patience: float = 15) -> Process:
        command = Command(
            (sys.executable, "-c", textwrap.dedent(program)), tmp_path, {"GREETING": "hello"}, patience=patience
        )
        return spawn(command, tmp_path / f"{name}.json", tmp_path / f"{name}.log")

    yield begin
    for record in tmp_path.glob("*.json"):
        stop(record)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "waited 20 s in vain"
        time.sleep(0.01)


def test_runs_in_a_session_of_its_own_with_its_output_in_a_private_log(tmp_path, start) -> None:
    program = "import os; print(os.environ['GREETING'], os.getsid(0) == os.getpid(), os.getcwd()); input()"
    process = start(program)
    log = tmp_path / "one.log"
    wait_for(lambda: "EOFError" in log.read_text())  # its standard input is empty
    assert log.read_text().splitlines()[0] == f"hello True {tmp_path}"
    assert log.stat().st_mode & 0o777 == 0o600
    wait_for(lambda: not process.alive)


def test_stop_ends_it_and_tells_whether_it_ran(tmp_path, start) -> None:
    process = start("import time; time.sleep(600)")
    assert recorded(tmp_path / "one.json") == process
    assert stop(tmp_path / "one.json") is True
    assert not process.alive
    assert stop(tmp_path / "one.json") is False


def test_one_that_will_not_listen_is_killed_with_its_children(tmp_path, start) -> None:
    start(
        """
        import signal, subprocess, sys, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        print(child.pid, flush=True)
        time.sleep(600)
        """,
        patience=0.2,
    )
    log = tmp_path / "one.log"
    wait_for(lambda: log.read_text().strip().isdigit())
    child = int(log.read_text())
    stop(tmp_path / "one.json")
    wait_for(lambda: start_time(child) is None)


def test_a_recycled_pid_is_never_signalled(tmp_path, start) -> None:
    stranger = start("import time; time.sleep(600)", "stranger")
    record = tmp_path / "ours.json"
    record.write_text(json.dumps({"pid": stranger.pid, "started": "long ago"}))
    assert recorded(record) is None
    assert stop(record) is False
    assert stranger.alive


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', '{"pid": 1, "started": "x", "colour": 2}'])
def test_a_damaged_record_counts_as_none(tmp_path, text) -> None:
    record = tmp_path / "one.json"
    record.write_text(text)
    assert recorded(record) is None
    assert stop(record) is False


def test_a_starter_killed_before_the_pid_is_on_disk_leaves_nothing(tmp_path) -> None:
    """The waiting shell reads end-of-file where the starter dies between fork and record."""
    program = f"""
        import os, signal
        from pathlib import Path
        import lakehouse.stack.process as process
        process.write_private = lambda path, text: os.kill(os.getpid(), signal.SIGKILL)
        folder = Path({str(tmp_path)!r})
        process.spawn(process.Command(("touch", "ran"), folder, {{}}), folder / "one.json", folder / "one.log")
        """
    answer = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=False)
    assert answer.returncode == -signal.SIGKILL
    waiting = f"reqlake-stack {tmp_path} touch".encode()

    def gone() -> bool:
        lines = (folder / "cmdline" for folder in Path("/proc").iterdir() if folder.name.isdigit())
        return not any(waiting in _read(line).replace(b"\0", b" ") for line in lines)

    wait_for(gone)
    assert not (tmp_path / "ran").exists()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


GUARDED = """
    import os, signal, sys
    from pathlib import Path
    from lakehouse.stack.guard import Guard
    from lakehouse.stack.process import Command, spawn
    folder = Path(sys.argv[1])
    with Guard(folder) as guard:
        for name in ("a", "b"):
            guard.watch(name)
            sleeper = Command((sys.executable, "-c", "import time; time.sleep(600)"), folder, {})
            spawn(sleeper, folder / "run" / f"{name}.json", folder / f"{name}.log")
        ENDING
    """


@pytest.mark.parametrize(
    ("ending", "lives"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", False),
        ("os.kill(os.getpid(), signal.SIGTERM)", False),
        ("os.kill(os.getpid(), signal.SIGINT)", False),
        ("raise SystemExit('an error')", False),
        ("guard.keep()", True),
    ],
)
def test_services_outlive_their_starter_only_when_it_says_so(tmp_path, ending, lives) -> None:
    program = textwrap.dedent(GUARDED).replace("ENDING", ending)
    subprocess.run([sys.executable, "-c", program, tmp_path], check=False, capture_output=True)
    records = [tmp_path / "run" / f"{name}.json" for name in "ab"]
    if not lives:
        wait_for(lambda: not any(record.exists() for record in records))
    assert [recorded(record) is not None for record in records] == [lives, lives]
    for record in records:
        stop(record)
