"""`reqlake rebucket`."""

from __future__ import annotations

from typing import Literal

from tyro.conf import Positional

from reqlake.cli.terminal import err, out


def rebucket(
    dataset: Positional[str],
    /,
    *,
    buckets: int | None = None,
    grain: Literal["none", "year", "month", "day"] | None = None,
    dry_run: bool = False,
    back: bool = False,
    drop_kept: bool = False,
) -> None:
    """Lay a request table out anew, with other buckets or another grain of time: built beside, proved, swapped in.

    Tags and branches come over, each with its rows under a new snapshot. The table of before stays as <table>_before.

    Args:
        dataset: A spec file, a table's full name or a dataset's name.
        buckets: Files of a period, by a hash of user_id; else as many as now.
        grain: Periods of request_ts; else those of now.
        dry_run: Say what comes over and what does not; write nothing.
        back: Swap the table of before in again; refused where that would lose what came since.
        drop_kept: Remove the table of before, and what a rebucket that died has left.
    """
    from lakehouse.settings import load_settings
    from reqlake.cli.dataset import is_file, opened, table_name
    from reqlake.show.ingest import live_steps
    from reqlake.show.rebucket import show_plan, show_rebucket
    from spark_jobs import rebucket as job
    from spark_jobs.rebucket_plan import plan
    from spark_jobs.session import build_session

    if not is_file(dataset):
        job.mend_name(load_settings(), table_name(dataset))
    _, spec, settings = opened(dataset)
    if drop_kept:
        names, files = job.drop_kept(settings, spec)
        told = f"{', '.join(names)} dropped, {files:,} files" if names else f"nothing is kept beside {spec.table()}"
        out().print(told, soft_wrap=True)
        return
    with live_steps(err()) as step:
        if back:
            report = job.back(lambda: build_session(settings), settings, spec, progress=step)
        else:
            wanted = spec.partition.model_copy(
                update={"buckets": buckets or spec.partition.buckets, "grain": grain or spec.partition.grain}
            )
            planned = plan(settings, spec, wanted)
            if dry_run:
                show_plan(out(), planned)
                return
            step("Starting Spark")
            report = job.run(build_session(settings), settings, spec, wanted, progress=step)
    show_rebucket(out(), report)
