"""A batch of label files into the request table: exactly once, whatever came first.

    look → judge rows → known requests → audit branch with the touched rows → quarantine, waiting labels → publish →
    ledger → overdue labels

Touched requests are taken out by position and written anew with their labels, as late impressions are
(docs/decisions/0007-late-merge.md). A label without an impression waits (spark_jobs/pending.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from lakehouse.audit_branches import name_branch
from lakehouse.catalog import open_catalog
from lakehouse.lease import refuse_beside
from lakehouse.ledger import Ledger, Member, members_json
from lakehouse.quality import audit
from lakehouse.schema import as_in_table, check_spec, ensure_request_table
from lakehouse.settings import Settings
from lakehouse.spec import DatasetSpec
from spark_jobs.batch import Batch, choose_batch
from spark_jobs.errors import BatchRefusedError
from spark_jobs.guard import job
from spark_jobs.label_log import entries_of, judged, label_log
from spark_jobs.label_requests import Met, find_labelled
from spark_jobs.labels import KEY, label_columns
from spark_jobs.lake import Lake
from spark_jobs.layout import order_writes
from spark_jobs.merge import delete_requests
from spark_jobs.overtaken import until_published
from spark_jobs.pending import drop_overdue, overdue, write_pending
from spark_jobs.publish import (
    append_batch,
    appended,
    branch_of,
    delete_by_position,
    drop_leftovers,
    head_of,
    publish,
    require_taken_out,
)
from spark_jobs.quarantine import Condemned, ensure_quarantine, write_quarantine
from spark_jobs.raw import RawLog
from spark_jobs.report import Progress, Steps
from spark_jobs.scan import FILE, ROW
from spark_jobs.sources import Files, source_of

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

MEMBER = "labels:"
"""A file's mark in the ledger: the same file may come as a log and as labels."""


@dataclass(frozen=True)
class LabelReport:
    """The books of one batch of labels: `rows = sound rows + sum(quarantined.values())`.

    `labels` are the values that sound rows tell. Of these `matched` name an impression that the table has, and
    `waiting` do not yet. `updated`: values of the table that changed (in `requests` rows written anew); the other
    matched ones were older, or the same. `dropped`: labels that had waited for `label_horizon`, and are in quarantine
    now as label_without_impression.
    """

    batch_id: str
    rows: int = 0
    labels: int = 0
    matched: int = 0
    waiting: int = 0
    updated: int = 0
    requests: int = 0
    dropped: int = 0
    quarantined: dict[str, int] = field(default_factory=dict)
    snapshot_id: int | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    skipped: bool = False
    known_files: tuple[str, ...] = ()
    waiting_files: tuple[str, ...] = ()


def run(
    spark: SparkSession,
    settings: Settings,
    spec: DatasetSpec,
    paths: Sequence[str | Path],
    *,
    batch_id: str | None = None,
    now: datetime | None = None,
    progress: Progress | None = None,
) -> LabelReport:
    """Bring label files into the request table as one batch; `now` is the clock by which waiting labels are overdue.

    Files that were brought in already are passed over. Raises SpecError (no label has a time), RawDataError,
    BatchRefusedError (too many bad rows, a given id with other files), MainMovedError, AuditError, LeaseError beside an
    erasure, CatalogError, FormatError. Whatever is raised, nothing was published.
    """
    with job(spark, settings):
        spec = as_in_table(open_catalog(settings), spec, settings)
        lake = Lake(spark, settings, spec, Steps(progress))
        with lake.steps.step("look", "Looking at the label files"):
            source = source_of(spark, settings, spec, paths)
            assert isinstance(source, Files)
        before = (now or datetime.now(UTC)) - spec.label_horizon
        report = until_published(lake.steps, lambda: _bring_in(lake, source, batch_id, before))
        return replace(report, waiting_files=source.waiting)


def _bring_in(lake: Lake, source: Files, batch_id: str | None, before: datetime) -> LabelReport:
    spark, settings, spec, steps = lake.spark, lake.settings, lake.spec, lake.steps
    with steps.step("prepare", "Opening the table"):
        refuse_beside(lake.catalog, spec, settings, "ingest")
        table = ensure_request_table(lake.catalog, spec, settings)
        order_writes(spark, table, lake.requests)
        drop_leftovers(spark, table, lake.requests)
        ledger = Ledger(lake.catalog, spec, settings)
        base = table.refresh().current_snapshot()
        ledger.recover(table)
        batch = _choose(source, ledger.batches(), batch_id)
    if not sum(file.rows for file in batch.files):
        return LabelReport(batch.id, skipped=True, known_files=batch.known_paths, seconds=steps.seconds)
    new = {unit.path for unit in batch.files}
    read = label_log(spec, {name for file in source.found if file.path in new for name in file.schema.names})
    raw = replace(source, spec=read.spec).open(batch.files)
    with steps.step("judge", f"Judging {raw.rows:,} rows of labels"):
        rows = judged(read, raw).persist()
        condemned = _condemned(rows)
        _require_sound(condemned, raw, settings)
        # A checkpoint cuts off what a frame was made of: planning it again in each step takes longer than the steps.
        told = entries_of(spec, read, rows).localCheckpoint()
        late = overdue(spark, lake.catalog, spec, settings, before)
    branch = name_branch(batch.id)
    members = [Member(MEMBER + m.member, m.name, m.rows) for m in batch.members]
    with branch_of(spark, lake.requests, branch, base):
        refuse_beside(lake.catalog, spec, settings, "ingest")
        check_spec(table.refresh(), spec)
        with steps.step("known", "Looking for the requests of the labels"):
            met = find_labelled(spec, _as_of(lake, base), settings.catalog.in_spark, told, late)
        head, report = _write(lake, table, branch, met, members=members_json(members), batch_id=batch.id)
        waiting = met.missing(told).persist()
        lost = None if late is None else met.missing(late)
        with steps.step("keep", "Keeping what waits and what is held back"):
            count = waiting.count()
            pending = lake.in_spark(spec.table("pending_labels"))
            write_pending(spec, waiting, raw, pending, batch.id)
            if condemned.total:
                quarantine = lake.in_spark(ensure_quarantine(lake.catalog, spec, settings))
                write_quarantine(raw, condemned, quarantine, batch.id)
        labels, dropped = told.count(), 0 if lost is None else lost.count()
        with steps.step("publish", "Publishing"):
            publish(spark, lake.requests, branch)
    with steps.step("ledger", "Entering the batch in the ledger"):
        ledger.write(batch.id, members, head.snapshot_id, head.timestamp_ms)
    if lost is not None:
        with steps.step("overdue", f"Taking out labels that have waited too long, {dropped:,} of them for nothing"):
            done = drop_overdue(spark, lake.catalog, spec, settings, lost=lost, before=before)
            dropped = dropped if done else 0
    for frame in (rows, late, waiting):
        if frame is not None:
            frame.unpersist()
    return replace(
        report,
        rows=raw.rows,
        labels=labels,
        matched=labels - count,
        waiting=count,
        dropped=dropped,
        quarantined=condemned.counts,
        snapshot_id=head.snapshot_id,
        seconds=steps.seconds,
        known_files=batch.known_paths,
    )


def _as_of(lake: Lake, base: Snapshot | None) -> DataFrame | None:
    """The request table as of a snapshot; None where it has none."""
    if base is None:
        return None
    return lake.spark.read.option("versionAsOf", str(base.snapshot_id)).table(lake.requests)


def _choose(source: Files, published: dict[str, set[str]], given: str | None) -> Batch:
    """The new files under a given id, or one that no log's batch has. Raises BatchRefusedError."""
    mine = {
        batch: {member.removeprefix(MEMBER) for member in members}
        for batch, members in published.items()
        if all(member.startswith(MEMBER) for member in members)
    }
    if given in published and given not in mine:
        raise BatchRefusedError(f"batch {given!r} is one of impressions: give the labels another id, or none")
    batch = choose_batch(source.units(published, given), mine, given)
    return batch if given else replace(batch, id=f"labels-{batch.id}")


def _condemned(rows: DataFrame) -> Condemned:
    from pyspark.sql import functions as F

    bad = rows.where(F.col("_fault").isNotNull()).select(
        F.xxhash64(FILE).alias("file"),
        F.col(ROW).alias("row"),
        F.col("_fault.reason").alias("reason"),
        F.col("_fault.column").alias("detail"),
    )
    counts = {row["reason"]: int(row["count"]) for row in bad.groupBy("reason").count().collect()}
    return Condemned(bad, dict(sorted(counts.items())))


def _require_sound(condemned: Condemned, raw: RawLog, settings: Settings) -> None:
    share, ceiling = condemned.total / raw.rows, settings.ingest.max_bad_share
    if share > ceiling:
        counts = ", ".join(f"{reason} {count:,}" for reason, count in condemned.counts.items())
        raise BatchRefusedError(
            f"{condemned.total:,} of {raw.rows:,} rows of labels ({share:.1%}) would go to quarantine, the ceiling is "
            f"{ceiling:.1%}: nothing was published. Reasons: {counts}. Mend the files or the spec's `label_files`, or "
            f"raise REQLAKE_INGEST__MAX_BAD_SHARE"
        )


def _write(
    lake: Lake, table: Table, branch: str, met: Met, *, members: str, batch_id: str
) -> tuple[Snapshot, LabelReport]:
    """Write the requests whose labels change to the branch, or an empty snapshot: main has to move (pending.py)."""
    from pyspark.sql import functions as F

    spark, spec, steps, target = lake.spark, lake.spec, lake.steps, f"{lake.requests}.branch_{branch}"
    report, names = LabelReport(batch_id), [c.name for c in spec.columns()]
    if met.rows is None:
        append_batch(spark.table(lake.requests).where("false"), target, batch_id, members)
        return head_of(table, branch), report
    narrow = met.rows.select(*KEY, "request_hash", *label_columns(spec), "_updates")
    with steps.step("compare", "Comparing the labels with the table's"):
        keys = narrow.where("_updates > 0").select(*KEY).distinct().localCheckpoint()
        changed = narrow.join(F.broadcast(keys), KEY, "left_semi")
        told = changed.agg(F.count("*").alias("rows"), F.coalesce(F.sum("_updates"), F.lit(0)).alias("updates"))
        count = told.collect()[0]
    if count["rows"]:
        with steps.step("delete", f"Taking out {count['rows']:,} requests to write them anew"):
            delete_by_position(spark, table, lake.requests)
            delete_requests(spark, target, met.where, keys)
            require_taken_out(lake.requests, head_of(table, branch), count["rows"])
    with steps.step("write", f"Writing {count['rows']:,} requests with their labels"):
        rows = met.rows.join(F.broadcast(keys), KEY, "left_semi").select(*names)
        append_batch(rows, target, batch_id, members)
        head = head_of(table, branch)
    if count["rows"]:
        with steps.step("audit", "Validating before anything is published"):
            audit(appended(spark, lake.requests, head), spec).require()
    return head, replace(report, updated=int(count["updates"]), requests=int(count["rows"]))
