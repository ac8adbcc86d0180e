"""`reqlake erase`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from reqlake.cli.terminal import err, out


def erase(
    dataset: Positional[str],
    /,
    *,
    users: Path,
    yes: bool = False,
    dry_run: bool = False,
    tags: Literal["rebuild", "drop"] = "rebuild",
) -> None:
    """Remove users from every table, snapshot, tag and branch of a dataset, then prove it by decoding every file.

    The proof and what it cannot reach (raw logs, checkpoints, other datasets) are written below the lake's home.

    Args:
        dataset: A spec file, a table's full name or a dataset's name.
        users: One user a line, as the raw log names them (or a Parquet file's first column).
        yes: Training sets that hold the users may be changed.
        dry_run: Say which tables, tags and branches hold the users; erase nothing.
        tags: What becomes of such a set: "rebuild" it without them under a new snapshot, or "drop" it.
    """
    from reqlake.cli.dataset import opened
    from reqlake.show.ingest import live_steps
    from spark_jobs import erase as job
    from spark_jobs.erase_plan import plan
    from spark_jobs.erase_users import read_users
    from spark_jobs.session import build_session

    _, spec, settings = opened(dataset)
    listed = read_users(users, spec)
    if dry_run:
        for held in plan(settings, spec, listed):
            out().print(f"{held.rows:,} rows in {held.table}, {held.kind} {held.ref}", soft_wrap=True)
        return
    with live_steps(err()) as step:
        step("Starting Spark")
        report, written = job.run(build_session(settings), settings, spec, listed, yes=yes, tags=tags, progress=step)
    out().print(report.to_text(), end="", markup=False, soft_wrap=True)
    err().print(f"wrote {written} and {written.with_suffix('.json').name}", soft_wrap=True)
