"""Maintain: look at a dataset and do what is due, nothing else. Spark is started only where something is rewritten."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from lakehouse.catalog import open_catalog
from lakehouse.schema import open_request_table
from lakehouse.settings import Settings
from lakehouse.spec import DatasetSpec
from lakehouse.upkeep.state import TableState, UpkeepReport
from spark_jobs import beside, column_retention, compact, expire, orphans, retention, tag_rules
from spark_jobs.report import Progress

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def run(
    session: Callable[[], SparkSession],
    settings: Settings,
    spec: DatasetSpec,
    *,
    dry_run: bool = False,
    progress: Progress = lambda _: None,
) -> list[UpkeepReport]:
    """Retention of rows and of columns, compaction, tags by rule, expiry, orphans; a report of each that did something.

    The tables beside the request table are compacted and expired by the same rules.

    A tag comes after the compaction, so that it pins the files that main has, and before the expiry of what it drops.

    `session` gives the Spark session when one is needed. Raises what the jobs raise; what an earlier one did stays.
    """
    progress("Dropping what retention has run out for")
    reports = [retention.run(settings, spec, dry_run=dry_run, progress=progress)]
    progress("Looking for columns that retention has run out for")
    reports.append(column_retention.run(session, settings, spec, dry_run=dry_run, progress=progress))
    progress("Looking for partitions that are due")
    due = compact.plan(settings, spec)
    table = open_request_table(open_catalog(settings), spec, settings)
    state = TableState.of(table)
    if dry_run:
        did = tuple(f"{p.name}: {', '.join(p.reasons)}" for p in due)
        files, size = sum(p.files for p in due), sum(p.file_bytes for p in due)
        reports.append(UpkeepReport("compact", spec.table(), state, state, did, True, files, size, 0.0, tuple(due)))
    elif due or compact.manifests_due(state, settings.maintenance):
        progress("Starting Spark")
        reports.append(compact.run(session(), settings, spec, progress=progress))
    progress("Looking for tags that are due")
    reports.append(tag_rules.run(settings, spec, dry_run=dry_run, progress=progress))
    reports.append(expire.run(settings, spec, dry_run=dry_run, progress=progress))
    reports += beside.run(session, settings, spec, dry_run=dry_run, progress=progress)
    reports += orphans.run(settings, spec, dry_run=dry_run, progress=progress)
    return [report for report in reports if report.did]
