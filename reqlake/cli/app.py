"""The table of commands, and what happens around a command: `--debug`, failures, Ctrl-C.

Nothing heavy is imported before a command runs: `reqlake --help` answers in a quarter of a second.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Union

import tyro
from tyro.conf import DisallowNone, FlagCreatePairsOff, Suppress, subcommand

from reqlake.cli import (
    backfill,
    batches,
    demo,
    doctor,
    erase,
    estimate,
    evaluate,
    ingest,
    maintain,
    quarantine,
    query,
    rebucket,
    report,
    sample,
    score,
    spec,
    stack,
    tag,
    train,
    validate,
    verify,
    views,
)
from reqlake.cli.failures import explain

DESCRIPTION = """\
Request-level deduplication for recommender systems: store, read, train on and serve request data once per request.

Settings come from the environment (REQLAKE_HOME, REQLAKE_CATALOG__URI, …) and from reqlake.toml in the current folder;
the default is a lake of its own in ./lake. DATASET is a spec file, a table's full name or a dataset's name. `--debug`
anywhere shows the traceback of an error."""


COMMANDS: dict[str, Callable[..., object]] = {
    "spec check": spec.check,
    "spec infer": spec.infer,
    "spec show": spec.show,
    "spec plan": spec.plan,
    "spec apply": spec.apply,
    "ingest": ingest.ingest,
    "quarantine list": quarantine.list_held,
    "quarantine show": quarantine.show,
    "quarantine replay": quarantine.replay,
    "validate": validate.validate,
    "report": report.report,
    "verify data": verify.data,
    "query": query.query,
    "views apply": views.apply,
    "views diff": views.diff,
    "views drop": views.drop,
    "batches plan": batches.plan,
    "batches preview": batches.preview,
    "batches trace": batches.trace,
    "batches bench": batches.bench,
    "batches dump": batches.dump,
    "batches replay": batches.replay,
    "tag create": tag.create,
    "tag list": tag.list_sets,
    "tag drop": tag.drop,
    "tag diff": tag.diff,
    "sample": sample.sample,
    "estimate": estimate.estimate,
    "maintain": maintain.maintain,
    "compact": maintain.compact,
    "expire": maintain.expire,
    "orphans": maintain.orphans,
    "backfill": backfill.backfill,
    "erase": erase.erase,
    "rebucket": rebucket.rebucket,
    "train": train.train,
    "evaluate": evaluate.evaluate,
    "score": score.score,
    "stack up": stack.up,
    "stack status": stack.status,
    "stack down": stack.down,
    "stack logs": stack.logs,
    "doctor": doctor.doctor,
    "demo": demo.demo,
}
"""Every command by its words, in the order of the help."""
GROUPS = {
    "spec": "Check, draft or show a dataset's spec; change it together with its table.",
    "quarantine": "Raw rows that are held back: how many and why, and the rows themselves.",
    "verify": "Prove that the request table holds what the raw log held.",
    "views": "The spec's views in Trino or Spark: made, compared, dropped.",
    "batches": "What the reader would read: its plan, its first batches, a step's rows; how fast it is here.",
    "tag": "Training sets: named, pinned states of the table, and what changed between two.",
    "stack": "Postgres, S3 and Trino on this machine, without Docker.",
}
"""What each first word of two is for."""


def commands() -> Any:
    """Every command under its name, as the type that tyro parses.

    `object` stands where tyro's own SubcommandApp has `Any`, for which it would import typeguard: 0.1 s of each start.
    """
    arms: dict[str, Any] = {}
    for words, function in COMMANDS.items():
        first, _, second = words.partition(" ")
        if second:
            arms.setdefault(first, {})[second] = function
        else:
            arms[first] = function
    return _group(
        **{name: (_group(**arm), GROUPS[name]) if isinstance(arm, dict) else arm for name, arm in arms.items()}
    )


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
