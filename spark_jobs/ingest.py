"""Ingest: a raw impression log into its request table, exactly once, or not at all.

    look at the files → known requests → narrow pass → (refuse?) → wide pass → audit branch → suite → quarantine →
    publish → ledger

Late impressions of known requests are merged into their rows (spark_jobs/merge.py). Where another job publishes
meanwhile, the batch is done again on what that one left. A job that dies anywhere leaves main as it was, or published;
the next run makes good what is missing: leftover branches are dropped, and a batch that was published without its
ledger entry is found in the snapshots.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from lakehouse.audit_branches import name_branch
from lakehouse.catalog import open_catalog
from lakehouse.errors import ReqlakeError
from lakehouse.lease import refuse_beside
from lakehouse.ledger import Ledger, Member, members_json
from lakehouse.quality import audit
from lakehouse.quality.batch import keep_audit
from lakehouse.schema import as_in_table, check_spec, ensure_request_table
from lakehouse.settings import Settings, load_settings
from lakehouse.spec import DatasetSpec, load_spec
from spark_jobs.batch import choose_batch
from spark_jobs.conflicts import count_conflicts
from spark_jobs.dedup import Dedup
from spark_jobs.guard import job
from spark_jobs.ids import NewIds, find_new_ids
from spark_jobs.judge import faulty, judge, sound
from spark_jobs.labels import with_entries
from spark_jobs.lake import Lake
from spark_jobs.layout import order_writes
from spark_jobs.merge import Known, find_known
from spark_jobs.overtaken import until_published
from spark_jobs.pending import find_pending
from spark_jobs.publish import (
    added,
    append_batch,
    appended,
    branch_of,
    delete_by_position,
    drop_leftovers,
    head_of,
    publish,
    require_taken_out,
    reset_branch,
)
from spark_jobs.quarantine import Condemned, ensure_quarantine, write_quarantine
from spark_jobs.raw import RawLog
from spark_jobs.reingest import Change
from spark_jobs.report import IngestReport, Progress, Steps
from spark_jobs.session import build_session
from spark_jobs.settle import settle
from spark_jobs.sources import OnChange, Source, TableRange, source_of

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


def run(
    spark: SparkSession,
    settings: Settings,
    spec: DatasetSpec,
    raw: Sequence[str | Path] | TableRange,
    *,
    batch_id: str | None = None,
    progress: Progress | None = None,
) -> IngestReport:
    """Ingest raw files, folders and globs, or a table's snapshots, as one batch.

    Without `batch_id` the batch is named by its files' contents, and files that are in the table already are passed
    over; files of folders and globs that are not whole yet wait. Raises RawDataError (files that cannot be ingested),
    BatchRefusedError (too many bad rows, a given id with other files), MainMovedError (other jobs published each time
    this one was about to), AuditError (the suite failed), CatalogError, FormatError. Whatever is raised, nothing was
    published.
    """
    with job(spark, settings):
        spec = as_in_table(open_catalog(settings), spec, settings)
        lake = Lake(spark, settings, spec, Steps(progress))
        with lake.steps.step("look", "Looking at the raw files"):
            source = source_of(spark, settings, spec, raw)
        report = until_published(lake.steps, lambda: _ingest(lake, source, batch_id))
        return replace(report, waiting_files=source.waiting)


def _ingest(lake: Lake, source: Source, batch_id: str | None) -> IngestReport:
    spark, settings, spec, steps = lake.spark, lake.settings, lake.spec, lake.steps
    with steps.step("prepare", "Opening the table"):
        refuse_beside(lake.catalog, spec, settings, "ingest")
        table = ensure_request_table(lake.catalog, spec, settings)
        order_writes(spark, table, lake.requests)
        drop_leftovers(spark, table, lake.requests)
        ledger = Ledger(lake.catalog, spec, settings)
        base = table.refresh().current_snapshot()
        ledger.recover(table)
        published = ledger.batches()
        batch = choose_batch(source.units(published, batch_id), published, batch_id)
    change = source.change(batch.files)
    if change is None and not sum(file.rows for file in batch.files):
        return IngestReport(batch.id, skipped=True, known_files=batch.known_paths, seconds=steps.seconds)
    log = source.open(batch.files)

    def hold(condemned: Condemned, known: Known | None) -> None:
        if condemned.total:
            with steps.step("quarantine", f"Putting {condemned.total:,} rows into quarantine"):
                quarantine = lake.in_spark(ensure_quarantine(lake.catalog, spec, settings))
                write_quarantine(log, condemned, quarantine, batch.id, known)

    report = bring_in(lake, table, base, Incoming(batch.id, batch.members, log, hold, change=change))
    return replace(report, known_files=batch.known_paths)


@dataclass(frozen=True)
class Incoming:
    """A batch on its way: its name, its members, its raw log, and what keeps the rows that cannot stay (`hold`).

    `hold` is called once before the others are published, and again where all is done anew. `even_empty`: where every
    row is condemned and their requests are known, it is published all the same, so that its name is known from then on.
    With a `change` its rows take the place of all that the table has of their requests (spark_jobs/reingest.py).
    """

    batch_id: str
    members: list[Member]
    log: RawLog
    hold: Callable[[Condemned, Known | None], None]
    even_empty: bool = True
    change: Change | None = None


def bring_in(lake: Lake, table: Table, base: Snapshot | None, batch: Incoming) -> IngestReport:
    """One batch from its raw log into the table, on what `base` left. Raises as `run` does."""
    spark, settings, spec, steps = lake.spark, lake.settings, lake.spec, lake.steps
    log = batch.log
    change, labels = batch.change, None
    known = find_stored(lake, log.typed if change is None else change.keys, base)
    if change is not None:
        known, labels = change.released(spec, known)
    with steps.step("narrow", f"Grouping {log.rows:,} rows into requests"):
        # Under `split` a late row's variant is told by its fingerprint, so it is taken even where nobody asks for it.
        check = settings.ingest.check_conflicts or (known is not None and spec.conflict == "split")
        dedup = Dedup.start(spec, log, check_conflicts=check, known=known)
        dedup = settle(dedup) if change is None else dedup
        known = dedup.known
    branch = name_branch(batch.batch_id)
    with branch_of(spark, lake.requests, branch, base):
        refuse_beside(lake.catalog, spec, settings, "ingest")
        check_spec(table.refresh(), spec)
        ids, pending = _find_ids(lake, log), find_pending(spark, lake.catalog, spec, settings, dedup.groups)
        told = (labels, None if pending is None else pending.entries)
        dedup, condemned, head = _write(lake, dedup, table, batch, branch, told=told)
        warnings: tuple[str, ...] = ()
        if dedup.books.requests:
            with steps.step("audit", "Validating before anything is published"):
                rows, about = appended(spark, lake.requests, head), (batch.batch_id, head.snapshot_id)
                warnings = keep_audit(lake.catalog, spec, settings, audit(rows, spec), frame=rows, about=about)
        by_column: dict[str, int] = {}
        if dedup.books.conflicting:
            with steps.step("conflicts", "Counting the columns on which rows disagree"):
                by_column = count_conflicts(spec, dedup)
        batch.hold(condemned, known)
        if ids is not None:
            with steps.step("ids", f"Keeping {ids.count:,} new string ids"):
                ids.write(batch.batch_id)
        with steps.step("publish", "Publishing"):
            publish(spark, lake.requests, branch)
    with steps.step("ledger", "Entering the batch in the ledger"):
        Ledger(lake.catalog, spec, settings).write(batch.batch_id, batch.members, head.snapshot_id, head.timestamp_ms)
    if pending is not None:
        with steps.step("labels", "Taking out labels that had waited for their impression"):
            pending.take_out(dedup.groups)
    dedup.groups.unpersist()
    stored = 0 if known is None else known.rows
    if known is not None:
        known.release()
    return IngestReport(
        batch_id=batch.batch_id,
        raw_rows=log.rows,
        accepted_rows=dedup.books.accepted,
        duplicate_rows=dedup.books.duplicates,
        conflict_rows=dedup.books.conflicting,
        requests=dedup.books.requests - (stored if change is None else 0),
        merged_requests=stored if change is None else 0,
        replaced_requests=0 if change is None else stored,
        quarantined=condemned.counts,
        conflicts_by_column=by_column,
        snapshot_id=head.snapshot_id,
        seconds=steps.seconds,
        warnings=warnings,
    )


def _find_ids(lake: Lake, log: RawLog) -> NewIds | None:
    """String ids of the batch that the ids table does not have. Raises BatchRefusedError for a collision."""
    if not lake.spec.string_ids:
        return None
    with lake.steps.step("ids", "Looking for string ids that are new, and for collisions"):
        return find_new_ids(lake.spark, lake.catalog, lake.spec, lake.settings, log.thin or log.typed)


def find_stored(lake: Lake, rows: DataFrame, base: Snapshot | None) -> Known | None:
    """Requests that the table holds, of rows with user_id, request_id and request_ts."""
    if base is None:
        return None
    with lake.steps.step("known", "Looking for requests that the table holds already"):
        keys = rows.select("user_id", "request_id", "request_ts")
        return find_known(lake.spark, lake.spec, keys, lake.requests, base.snapshot_id)


def _write(
    lake: Lake, dedup: Dedup, table: Table, batch: Incoming, branch: str, *, told: tuple[DataFrame | None, ...]
) -> tuple[Dedup, Condemned, Snapshot]:
    """Write the sound requests, with labels that entries `told`, to the branch.

    What was left of the batch, what is condemned, the branch's snapshot.
    """
    steps, target, members = lake.steps, f"{lake.requests}.branch_{branch}", members_json(batch.members)
    with steps.step("judge", "Judging the rows that cannot stay"):
        condemned = judge(dedup, lake.settings, even_empty=batch.even_empty)
    if dedup.known is not None and dedup.known.rows:
        with steps.step("delete", f"Taking out {dedup.known.rows:,} requests to write them anew"):
            _take_out(lake, dedup.known, table, branch)
    says = f"Writing {dedup.books.requests:,} requests"
    while True:
        with steps.step("write", says):
            requests = with_entries(lake.spec, dedup.complete(), *told)
            append_batch(sound(requests), target, batch.batch_id, members)
            head = head_of(table, branch)
        if added(head) == dedup.books.requests:
            return dedup, condemned, head
        with steps.step("redo", "Leaving out requests whose values break a rule"):
            dedup, changed = dedup.without(faulty(requests))
            condemned = judge(dedup, lake.settings, even_empty=batch.even_empty)
            if not changed:
                return dedup, condemned, head
            reset_branch(lake.spark, lake.requests, branch, head)
        # Rows that were late beside a bad row can be in time now, and bad themselves: each round condemns some.
        says = f"Writing {dedup.books.requests:,} requests anew: bad rows had given some their time"


def _take_out(lake: Lake, known: Known, table: Table, branch: str) -> None:
    """Delete the rows that will be written anew, from the branch. Raises AuditError where that took another number."""
    delete_by_position(lake.spark, table, lake.requests)
    known.delete(lake.spark, f"{lake.requests}.branch_{branch}")
    require_taken_out(lake.requests, head_of(table, branch), known.rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """`spark-submit spark_jobs/ingest.py --spec SPEC RAW…`, or `python -m spark_jobs.ingest`."""
    parser = argparse.ArgumentParser(prog="spark_jobs.ingest", description="Ingest a raw impression log.")
    parser.add_argument("--spec", required=True, help="the dataset spec, YAML")
    parser.add_argument("--batch-id", help="name of the batch, by default a hash of its files")
    parser.add_argument("--table", help="an Iceberg table of the catalog in place of files")
    parser.add_argument("--from-snapshot", type=int, help="go on after this snapshot of the table; 0: the whole table")
    parser.add_argument("--to-snapshot", type=int, help="stop at this snapshot of the table")
    parser.add_argument(
        "--on-change", choices=get_args(OnChange), default="refuse", help="what to do where a range changed rows"
    )
    parser.add_argument("raw", nargs="*", help="Parquet, ORC or Avro files, folders, globs")
    given = parser.parse_args(arguments)
    if bool(given.raw) == (given.table is not None):
        parser.error("give either raw files or --table")
    raw = given.raw or TableRange(given.table, given.from_snapshot, given.to_snapshot, given.on_change)
    try:
        settings = load_settings()
        spec = load_spec(given.spec)
        report = run(build_session(settings), settings, spec, raw, batch_id=given.batch_id, progress=_say)
    except ReqlakeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(json.dumps(asdict(report), indent=2))
    return 0


def _say(step: str) -> None:
    print(step, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
