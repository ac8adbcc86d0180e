"""The table of commands, and what happens around a command: `--debug`, failures, Ctrl-C.

Nothing heavy is imported before a command runs: `reqlake --help` answers in a quarter of a second.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import tyro
from tyro.extras import SubcommandApp

from reqlake.cli import batches, demo, doctor, evaluate, ingest, query, report, score, spec, train, validate, verify
from reqlake.cli.failures import explain

DESCRIPTION = """\
Request-level deduplication for recommender systems: store, read, train on and serve request data once per request.

Settings come from the environment (REQLAKE_HOME, REQLAKE_CATALOG__URI, …) and from reqlake.toml in the current folder;
the default is a lake of its own in ./lake. DATASET is a spec file, a table's full name or a dataset's name. `--debug`
anywhere shows the traceback of an error."""


def build_app() -> SubcommandApp:
    """Every command under its name."""
    app = SubcommandApp()
    specs, plans, checks = SubcommandApp(), SubcommandApp(), SubcommandApp()
    app.command(specs, name="spec", help="Check, draft or show a dataset's spec.")
    specs.command(spec.check)
    specs.command(spec.infer)
    specs.command(spec.show)
    app.command(ingest.ingest)
    app.command(validate.validate)
    app.command(report.report)
    app.command(checks, name="verify", help="Prove that the request table holds what the raw log held.")
    checks.command(verify.data)
    app.command(query.query)
    app.command(plans, name="batches", help="What the reader would read: its plan, or its first batches.")
    plans.command(batches.plan)
    plans.command(batches.preview)
    app.command(train.train)
    app.command(evaluate.evaluate)
    app.command(score.score)
    app.command(doctor.doctor)
    app.command(demo.demo)
    return app


def main(args: Sequence[str] | None = None) -> int:
    """Run one command; the exit code: 0 done, 1 an error that was explained, 2 a wrong command line, 130 Ctrl-C."""
    given = list(sys.argv[1:] if args is None else args)
    debug = "--debug" in given
    given = [word for word in given if word != "--debug"] or ["--help"]
    try:
        code = build_app().cli(
            prog="reqlake",
            description=DESCRIPTION,
            args=given,
            config=(tyro.conf.FlagCreatePairsOff, tyro.conf.DisallowNone),
        )
    except BaseException as error:
        if isinstance(error, SystemExit) or debug:
            raise
        return explain(error)
    return code if isinstance(code, int) else 0
