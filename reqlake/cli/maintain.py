"""`reqlake maintain`, and its parts by themselves: `compact`, `expire`, `orphans`."""

from __future__ import annotations

from tyro.conf import Positional

from reqlake.cli.terminal import err, out


def compact(dataset: Positional[str], /, *, dry_run: bool = False, every: bool = False) -> None:
    """Rewrite the partitions that need it, sorted by user and request; ingest and pinned readers go on beside it.

    Args:
        dataset: A spec file, a table's full name or a dataset's name.
        dry_run: Show which partitions are due, why, and what it would save; write nothing.
        every: Rewrite every partition, due or not.
    """
    from reqlake.cli.dataset import opened
    from reqlake.show.ingest import live_steps
    from reqlake.show.maintain import show_plan, show_upkeep
    from spark_jobs import compact as job
    from spark_jobs.session import build_session

    _, spec, settings = opened(dataset)
    due = job.plan(settings, spec, every=every)
    show_plan(out(), due, spec)
    if dry_run:
        return
    with live_steps(err()) as step:
        step("Starting Spark")
        report = job.run(build_session(settings), settings, spec, every=every, progress=step)
    show_upkeep(out(), [report])


def expire(
    dataset: Positional[str],
    /,
    *,
    older_than: float | None = None,
    keep: int | None = None,
    snapshots: tuple[int, ...] = (),
    dry_run: bool = False,
) -> None:
    """Remove old snapshots that no tag, branch or reader holds, and the files that only they needed.

    Args:
        dataset: A spec file, a table's full name or a dataset's name.
        older_than: Age in days from which a snapshot goes; else what the settings say, 7.
        keep: Newest snapshots that stay whatever their age; else what the settings say, 1.
        snapshots: Expire exactly these ids; one that something holds is refused.
        dry_run: Say what would go; remove nothing.
    """
    from reqlake.cli.dataset import opened
    from reqlake.show.ingest import live_steps
    from reqlake.show.maintain import show_upkeep
    from spark_jobs import expire as job

    _, spec, settings = opened(dataset)
    with live_steps(err()) as step:
        report = job.run(
            settings,
            spec,
            older_than_days=older_than,
            keep=keep,
            snapshots=snapshots,
            dry_run=dry_run,
            progress=step,
        )
    show_upkeep(out(), [report])


def orphans(dataset: Positional[str], /, *, dry_run: bool = False) -> None:
    """Remove files of a dataset's tables that nothing references and that are a day old: what killed jobs left.

    Args:
        dataset: A spec file, a table's full name or a dataset's name.
        dry_run: Say what would go; remove nothing.
    """
    from reqlake.cli.dataset import opened
    from reqlake.show.ingest import live_steps
    from reqlake.show.maintain import show_upkeep
    from spark_jobs import orphans as job

    _, spec, settings = opened(dataset)
    with live_steps(err()) as step:
        reports = job.run(settings, spec, dry_run=dry_run, progress=step)
    show_upkeep(out(), reports)


def maintain(dataset: Positional[str], /, *, dry_run: bool = False) -> None:
    """Do what is due, in this order: retention, compaction, tags by rule, expiry, orphans. Run it daily.

    The tables beside the request table (ledger, ids, quarantine, ...) are compacted and expired as well.

    Args:
        dataset: A spec file, a table's full name or a dataset's name.
        dry_run: Say what is due; change nothing.
    """
    from reqlake.cli.dataset import opened
    from reqlake.show.ingest import live_steps
    from reqlake.show.maintain import show_upkeep
    from spark_jobs import maintain as job
    from spark_jobs.session import build_session

    _, spec, settings = opened(dataset)
    with live_steps(err()) as step:
        reports = job.run(lambda: build_session(settings), settings, spec, dry_run=dry_run, progress=step)
    show_upkeep(out(), reports)
