"""What holds for every command: help without heavy imports, one paragraph for an error, exit codes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lakehouse.errors import NotInstalledError, SpecError
from reqlake.cli import app
from reqlake.cli.failures import explain
from tests.reqlake.cli.conftest import Run

COMMANDS = list(app.COMMANDS)
HEAVY = ("torch", "pyspark", "pyarrow", "pandas", "numpy", "pydantic", "duckdb", "pyiceberg", "great_expectations")


@pytest.mark.parametrize("args", ["['--help']", "['spec', 'check', '--help']", "['train', '--help']"])
def test_help_imports_nothing_heavy(args: str) -> None:
    code = (
        f"import sys\nfrom reqlake.cli import main\ntry:\n    main({args})\nexcept SystemExit as e:\n"
        f"    print('CODE', e.code, [m for m in {HEAVY} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("CODE 0 []")


def test_help_lists_every_command(run: Run) -> None:
    said = run("--help")
    assert said.code == 0
    for command in COMMANDS:
        assert command.split()[0] in said.out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_what_it_does(run: Run, command: str) -> None:
    said = run(*command.split(), "--help")
    assert said.code == 0
    assert f"usage: reqlake {command}" in said.out
    assert "TODO" not in said.out.upper().replace("TO DO", "")


def test_no_arguments_show_the_help(run: Run) -> None:
    assert run().out == run("--help").out


def test_a_wrong_command_line_ends_with_2_and_names_what_there_is(run: Run) -> None:
    said = run("spec", "chek", "x.yaml")
    assert said.code == 2
    assert "check" in said.out + said.err


def test_a_deliberate_error_is_one_paragraph_without_a_traceback(run: Run) -> None:
    said = run("spec", "check", "nothing.yaml")
    assert said.code == 1
    assert said.out == ""
    assert said.err.startswith("error: cannot read the spec nothing.yaml")
    assert "Traceback" not in said.err


def test_debug_raises_what_happened(run: Run) -> None:
    with pytest.raises(SpecError, match=r"nothing\.yaml"):
        run("spec", "check", "nothing.yaml", "--debug")


def test_ctrl_c_ends_with_130_and_a_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        """Be interrupted."""
        raise KeyboardInterrupt

    monkeypatch.setitem(app.COMMANDS, "doctor", interrupted)
    said = run("doctor")
    assert said.code == 130
    assert "nothing is half done" in said.err
    assert "Traceback" not in said.err


def test_an_error_that_came_of_ctrl_c_is_ctrl_c(capsys: pytest.CaptureFixture[str]) -> None:
    failed = ConnectionError("Spark does not answer")
    failed.__context__ = KeyboardInterrupt()
    assert explain(failed) == 130
    assert "nothing is half done" in capsys.readouterr().err


def test_a_missing_extra_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(ModuleNotFoundError("No module named 'torch.nn'", name="torch.nn")) == 1
    assert "pip install 'reqlake[train]'" in capsys.readouterr().err
    assert explain(NotInstalledError("pyspark", "spark")) == 1
    assert "pip install 'reqlake[spark]'" in capsys.readouterr().err


def test_an_unexpected_error_says_that_it_is_ours(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(ZeroDivisionError("division by zero")) == 1
    said = capsys.readouterr().err
    assert "unexpected ZeroDivisionError: division by zero" in said
    assert "--debug" in said


def test_brackets_in_a_message_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    explain(SpecError("x[bold] of [red]list[/red]"))
    assert "x[bold] of [red]list[/red]" in capsys.readouterr().err
