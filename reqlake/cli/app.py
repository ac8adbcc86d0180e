"""The table of commands, and what happens around a command: `--debug`, failures, Ctrl-C.

Nothing heavy is imported before a command runs: `reqlake --help` answers in a quarter of a second.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any, Union

import tyro
from tyro.conf import DisallowNone, FlagCreatePairsOff, Suppress, subcommand

from reqlake.cli import (
    batches,
    demo,
    doctor,
    evaluate,
    ingest,
    query,
    report,
    score,
    spec,
    stack,
    train,
    validate,
    verify,
)
from reqlake.cli.failures import explain

DESCRIPTION = """\
Request-level deduplication for recommender systems: store, read, train on and serve request data once per request.

Settings come from the environment (REQLAKE_HOME, REQLAKE_CATALOG__URI, …) and from reqlake.toml in the current folder;
the default is a lake of its own in ./lake. DATASET is a spec file, a table's full name or a dataset's name. `--debug`
anywhere shows the traceback of an error."""


def commands() -> Any:
    """Every command under its name, as the type that tyro parses.

    `object` stands where tyro's own SubcommandApp has `Any`, for which it would import typeguard: 0.1 s of each start.
    """
    specs = _group(check=spec.check, infer=spec.infer, show=spec.show)
    plans = _group(plan=batches.plan, preview=batches.preview)
    checks = _group(data=verify.data)
    services = _group(up=stack.up, status=stack.status, down=stack.down, logs=stack.logs)
    named = {
        "spec": (specs, "Check, draft or show a dataset's spec."),
        "ingest": ingest.ingest,
        "validate": validate.validate,
        "report": report.report,
        "verify": (checks, "Prove that the request table holds what the raw log held."),
        "query": query.query,
        "batches": (plans, "What the reader would read: its plan, or its first batches."),
        "train": train.train,
        "evaluate": evaluate.evaluate,
        "score": score.score,
        "stack": (services, "Postgres, S3 and Trino on this machine, without Docker."),
        "doctor": doctor.doctor,
        "demo": demo.demo,
    }
    return _group(**named)


def _group(**named: Any) -> Any:
    """Commands, or (group, what it is for), by name, as one type."""
    arms = [
        Annotated[entry[0], subcommand(name=name, description=entry[1])]
        if isinstance(entry, tuple)
        else Annotated[object, subcommand(name=name, constructor=entry)]
        for name, entry in named.items()
    ]
    arms += [Annotated[None, Suppress]] if len(arms) == 1 else []  # a union has two arms and more
    return Union[tuple(arms)]  # noqa: UP007 - made at run time


def main(args: Sequence[str] | None = None) -> int:
    """Run one command; the exit code: 0 done, 1 an error that was explained, 2 a wrong command line, 130 Ctrl-C."""
    given = list(sys.argv[1:] if args is None else args)
    debug = "--debug" in given
    given = [word for word in given if word != "--debug"] or ["--help"]
    try:
        code = tyro.cli(
            commands(), prog="reqlake", description=DESCRIPTION, args=given, config=(FlagCreatePairsOff, DisallowNone)
        )
    except BaseException as error:
        if isinstance(error, SystemExit) or debug:
            raise
        return explain(error)
    return code if isinstance(code, int) else 0
