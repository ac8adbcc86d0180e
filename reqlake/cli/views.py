"""`reqlake views apply|diff|drop`."""

from __future__ import annotations

from typing import Literal

from tyro.conf import Positional

from reqlake.cli.terminal import err, out

Engine = Literal["trino", "spark"]


def apply(
    dataset: Positional[str], /, *, engine: Engine = "trino", flat_as: str | None = None, like: str | None = None
) -> None:
    """Make the spec's views, or bring them up to date. A view that reqlake did not make is never touched.

    Args:
        dataset: A spec file, a table's full name or a dataset's name.
        engine: Trino's views lie beside the table; Spark's in a namespace of their own, <namespace>_spark.
        flat_as: Trino: also make the flat view under this name, with the raw log's column names, for old queries.
        like: Trino: the table whose columns and types that view has, in their order.
    """
    _run("apply", dataset, engine, flat_as=flat_as, like=like)


def diff(
    dataset: Positional[str], /, *, engine: Engine = "trino", flat_as: str | None = None, like: str | None = None
) -> None:
    """Show what `reqlake views apply` would do, without doing it.

    Args:
        dataset: A spec file, a table's full name or a dataset's name.
        engine: Whose views.
        flat_as: As `apply` takes it.
        like: As `apply` takes it.
    """
    _run("diff", dataset, engine, flat_as=flat_as, like=like)


def drop(dataset: Positional[str], /, *, engine: Engine = "trino") -> None:
    """Drop the views that were made for a dataset. Its tables stay.

    Args:
        dataset: A spec file, a table's full name or a dataset's name.
        engine: Whose views.
    """
    _run("drop", dataset, engine)


def _run(what: Literal["apply", "diff", "drop"], dataset: str, engine: Engine, **flat: str | None) -> None:
    from lakehouse.errors import SqlError
    from reqlake.cli.dataset import opened
    from reqlake.show.ingest import live_steps
    from reqlake.show.views import show_changes

    _, spec, settings = opened(dataset)
    with live_steps(err()) as step:
        if engine == "trino":
            from lakehouse.sql import view_server

            step("Asking Trino")
            changes = getattr(view_server, what)(settings, spec, **flat)
        else:
            from spark_jobs import views
            from spark_jobs.session import build_session

            if any(flat.values()):
                raise SqlError("--flat-as and --like make a view in Trino: leave out --engine spark")
            step("Starting Spark")
            changes = getattr(views, what)(build_session(settings), settings, spec)
    show_changes(out(), changes, done=what != "diff")
