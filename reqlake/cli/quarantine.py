"""`reqlake quarantine`: raw rows that are not in the request table."""

from __future__ import annotations

from tyro.conf import Positional

from reqlake.cli.terminal import err, out


def list_held(dataset: Positional[str], /) -> None:
    """Count the held rows by batch, reason and column.

    Args:
        dataset: A spec file, a table's full name or a dataset's name.
    """
    from lakehouse.quarantine import held_groups
    from reqlake.cli.dataset import opened
    from reqlake.show.quarantine import show_groups

    catalog, spec, settings = opened(dataset)
    show_groups(out(), held_groups(catalog, spec, settings))


def show(
    dataset: Positional[str], /, *, reason: str | None = None, batch_id: str | None = None, limit: int = 20
) -> None:
    """Show held rows as the raw log had them; sensitive values are masked.

    Args:
        dataset: A spec file, a table's full name or a dataset's name.
        reason: Only rows held for this reason.
        batch_id: Only rows of this batch.
        limit: How many rows at most.
    """
    from lakehouse.quarantine import held_rows
    from reqlake.cli.dataset import opened
    from reqlake.show.quarantine import show_rows

    catalog, spec, settings = opened(dataset)
    rows = held_rows(catalog, spec, settings, reason=reason, batch_id=batch_id, limit=limit)
    if not rows:
        out().print("nothing is held", style="dim")
    show_rows(out(), rows)


def replay(
    dataset: Positional[str], /, *, reason: str | None = None, batch_id: str | None = None, dry_run: bool = False
) -> None:
    """Ingest held rows again under the table's present spec: what passes leaves the quarantine, exactly once.

    Rows that fail again stay with their new reason. Change the spec before (`reqlake spec apply FILE`).

    Args:
        dataset: A spec file, a table's full name or a dataset's name.
        reason: Only rows held for this reason.
        batch_id: Only rows of this batch.
        dry_run: Judge the rows and change nothing.
    """
    from lakehouse.settings import load_settings
    from reqlake.cli.dataset import spec_of
    from reqlake.show.ingest import live_steps
    from reqlake.show.quarantine import show_replay
    from spark_jobs import replay as job
    from spark_jobs.session import build_session

    settings = load_settings()
    spec = spec_of(dataset, settings)
    with live_steps(err()) as step:
        step("Starting Spark")
        session = build_session(settings)
        report = job.run(session, settings, spec, reason=reason, batch_id=batch_id, dry_run=dry_run, progress=step)
    show_replay(out(), report)
