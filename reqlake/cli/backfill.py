"""`reqlake backfill`."""

from __future__ import annotations

from typing import Annotated, Literal

from tyro.conf import Positional, arg

from reqlake.cli.terminal import err, out


def backfill(
    dataset: Positional[str],
    /,
    *,
    feature: str,
    source: Annotated[str, arg(name="from")],
    missing: Literal["keep", "null"] = "keep",
    dry_run: bool = False,
) -> None:
    """Add a request or candidate feature, or rewrite one, from a table or Parquet files; a rerun goes on.

    The source has user_id, request_id and the feature, for a candidate feature item_id or position as well.

    Args:
        dataset: A spec file, a table's full name or a dataset's name.
        feature: The feature: one of the spec, or a new one.
        source: The source: a table's full name, or Parquet files (a file, a folder, a quoted pattern).
        missing: What a request has that the source lacks: "keep" its value (null for a new feature), or "null".
        dry_run: Judge and count the source's keys; write nothing.
    """
    from reqlake.cli.dataset import opened
    from reqlake.show.backfill import show_backfill
    from reqlake.show.ingest import live_steps
    from spark_jobs import backfill as job
    from spark_jobs.session import build_session

    _, spec, settings = opened(dataset)
    with live_steps(err()) as step:
        step("Starting Spark")
        session = build_session(settings)
        report = job.run(session, settings, spec, feature, source, missing=missing, dry_run=dry_run, progress=step)
    show_backfill(out(), report, dry_run=dry_run)
