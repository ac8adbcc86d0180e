"""Replay: held rows ingested again under the table's present spec, each at most once.

    claim what passes, tell the rest its new reason (one commit) → publish → ledger → take out what was claimed

A replay that died is settled by the next one: published, its claims are taken out; else they are forgotten. Which it
was is asked of the request table's own snapshots (lakehouse/ledger.py).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pyiceberg.table import Table

from lakehouse.catalog import open_catalog
from lakehouse.errors import RawDataError
from lakehouse.lease import maintenance_lease
from lakehouse.ledger import REPLAYED, Ledger, Member
from lakehouse.schema import as_in_table, ensure_request_table
from lakehouse.settings import Settings
from lakehouse.spec import DatasetSpec
from spark_jobs.dedup import Dedup
from spark_jobs.errors import NothingSoundError
from spark_jobs.guard import job
from spark_jobs.held import INEXACT, Held, open_held, select_held
from spark_jobs.ingest import Incoming, bring_in, find_stored
from spark_jobs.judge import faulty
from spark_jobs.lake import Lake
from spark_jobs.layout import order_writes
from spark_jobs.merge import Known
from spark_jobs.overtaken import until_published
from spark_jobs.publish import drop_leftovers
from spark_jobs.quarantine import SCHEMA, Condemned, ensure_quarantine
from spark_jobs.report import IngestReport, Progress, Steps
from spark_jobs.scan import FILE

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

PREFIX = "replay-"
OUTCOME_VIEW = "reqlake_replay_outcome"


@dataclass(frozen=True)
class ReplayReport:
    """What a replay did: `tried = accepted + duplicates + sum(still.values())`.

    `accepted` rows came into the table, `duplicates` were in it already; both have left the quarantine. `still` are
    held on, by their reason under the present spec; `left` were not tried, by why. `settled`: replays that had died.
    """

    dataset: str
    batch_ids: tuple[str, ...]
    tried: int
    accepted: int
    duplicates: int
    requests: int
    merged_requests: int
    still: dict[str, int]
    left: dict[str, int]
    settled: tuple[str, ...]
    dry_run: bool
    seconds: dict[str, float]


def run(
    spark: SparkSession,
    settings: Settings,
    spec: DatasetSpec,
    *,
    reason: str | None = None,
    batch_id: str | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> ReplayReport:
    """Try held rows again, all or those of a reason or a batch; with `dry_run` judge them and write nothing.

    Raises FormatError where the table has another spec, RawDataError for requests that are made of pauses (`gap`: the
    id needs the whole run), LeaseError beside another maintenance job, MainMovedError, AuditError.
    """
    if spec.keys.request_id.gap is not None:
        raise RawDataError(
            f"{spec.name}: a request_id by gap is made of a user's whole run of impressions, which held rows alone are "
            f"not: ingest the mended files under a new batch id"
        )
    catalog = open_catalog(settings)
    with maintenance_lease(catalog, spec, settings, "replay") as lease, job(spark, settings):
        spec = as_in_table(catalog, spec, settings)
        lake = Lake(spark, settings, spec, Steps(progress))
        with lake.steps.step("prepare", "Opening the quarantine"):
            table = ensure_request_table(catalog, spec, settings)
            held_in = lake.in_spark(ensure_quarantine(catalog, spec, settings))
            ledger = Ledger(catalog, spec, settings)
            if not dry_run:
                ledger.recover(table)
            published = ledger.batches()
            settled = () if dry_run else _settle(spark, held_in, set(published))
            rows, left = select_held(
                spark.table(held_in).where("replayed_by IS NULL"), published, reason=reason, batch_id=batch_id
            )
            logs, inexact = open_held(spec, rows)
        if inexact:
            left[INEXACT] = inexact
        done = []
        for held in logs:
            name = PREFIX + hashlib.sha256(f"{spec.hash}\n{held.identity}".encode()).hexdigest()[:25]
            done.append(_judge_only(lake, table, held, name) if dry_run else _replay(lake, table, held, held_in, name))
            held.release()
            lease.renew()
    still: Counter[str] = Counter()
    for report in done:
        still.update(report.quarantined)
    return ReplayReport(
        dataset=spec.name,
        batch_ids=tuple(r.batch_id for r in done),
        tried=sum(held.log.rows for held in logs),
        accepted=sum(r.accepted_rows for r in done),
        duplicates=sum(r.duplicate_rows for r in done),
        requests=sum(r.requests for r in done),
        merged_requests=sum(r.merged_requests for r in done),
        still=dict(sorted(still.items())),
        left=left,
        settled=settled,
        dry_run=dry_run,
        seconds=lake.steps.seconds,
    )


def _replay(lake: Lake, table: Table, held: Held, held_in: str, name: str) -> IngestReport:
    """One batch of held rows; anew where another job published meanwhile."""
    strict = lake.settings.ingest
    lenient = lake.settings.model_copy(update={"ingest": strict.model_copy(update={"max_bad_share": 1.0})})
    mine = replace(lake, settings=lenient)
    return until_published(lake.steps, lambda: _attempt(mine, table, held, held_in, name))


def _attempt(lake: Lake, table: Table, held: Held, held_in: str, name: str) -> IngestReport:
    def hold(condemned: Condemned, known: Known | None) -> None:
        with lake.steps.step("quarantine", f"Telling {condemned.total:,} rows their reason"):
            lake.spark.sql(f"DELETE FROM {held_in} WHERE batch_id = '{name}'")  # of an attempt that was overtaken
            _tell(lake.spark, held_in, _outcome(held, condemned, known, name), name)

    order_writes(lake.spark, table, lake.requests)
    drop_leftovers(lake.spark, table, lake.requests)
    base = table.refresh().current_snapshot()
    members = [Member(f"{REPLAYED}{name}", "quarantine", held.log.rows)]
    try:
        report = bring_in(lake, table, base, Incoming(name, members, held.log, hold, even_empty=False))
    except NothingSoundError as error:
        hold(error.condemned, None)
        return IngestReport(name, held.log.rows, quarantined=error.condemned.counts)
    with lake.steps.step("release", "Taking out of the quarantine what is in the table"):
        _take_out(lake.spark, held_in, name)
    return report


def _outcome(held: Held, condemned: Condemned, known: Known | None, name: str) -> DataFrame:
    """A row for each that was tried, with its new reason or none; and stored candidates that were overruled."""
    from pyspark.sql import functions as F

    failed = condemned.rows.where("row >= 0").select(F.col("file").alias("_id"), F.col("row"), "reason", "detail")
    tried = held.places.withColumn("_id", F.xxhash64(FILE)).join(failed, ["_id", "row"], "left")
    told = tried.select("batch_id", "file", F.col("row").cast("bigint"), "reason", "detail")
    if known is None or not condemned.stored:
        return told
    return told.unionByName(known.condemned(condemned.rows, name), allowMissingColumns=True)


def _tell(spark: SparkSession, held_in: str, outcome: DataFrame, name: str) -> None:
    """One commit: what passes is claimed, what fails gets its reason, what was overruled comes in."""
    known = outcome.columns
    values = ", ".join(
        "coalesce(s.reason, '')" if f.name == "reason" else f"s.{f.name}" if f.name in known else "NULL"
        for f in SCHEMA.fields
    )
    # Cut off from its plan: Spark 4.1's MERGE has none for a source that reads the table which it changes.
    outcome.localCheckpoint().createOrReplaceTempView(OUTCOME_VIEW)
    try:
        spark.sql(
            f"MERGE INTO {held_in} q USING {OUTCOME_VIEW} s "
            f"ON q.batch_id = s.batch_id AND q.file = s.file AND q.row = s.row "
            f"WHEN MATCHED AND s.reason IS NULL THEN UPDATE SET replayed_by = '{name}' "
            f"WHEN MATCHED THEN UPDATE SET reason = coalesce(s.reason, ''), detail = s.detail, replayed_by = NULL "
            f"WHEN NOT MATCHED AND s.reason IS NOT NULL THEN INSERT ({', '.join(f.name for f in SCHEMA.fields)}) "
            f"VALUES ({values})"
        )
    finally:
        spark.catalog.dropTempView(OUTCOME_VIEW)


def _take_out(spark: SparkSession, held_in: str, name: str) -> None:
    spark.sql(f"DELETE FROM {held_in} WHERE replayed_by = '{name}'")


def _settle(spark: SparkSession, held_in: str, published: set[str]) -> tuple[str, ...]:
    """Finish replays that died after they were published, forget those that died before; their names."""
    from pyspark.sql import functions as F

    held = spark.table(held_in)
    claims = held.where("replayed_by IS NOT NULL").select(F.col("replayed_by").alias("name"))
    brought = held.where(F.col("batch_id").startswith(PREFIX)).select(F.col("batch_id").alias("name"))
    claimed = {row["name"] for row in claims.distinct().collect()}
    names = claimed | ({row["name"] for row in brought.distinct().collect()} - published)
    for name in sorted(names):
        if name in published:
            _take_out(spark, held_in, name)
        else:
            spark.sql(f"DELETE FROM {held_in} WHERE batch_id = '{name}'")
            spark.sql(f"UPDATE {held_in} SET replayed_by = NULL WHERE replayed_by = '{name}'")
    return tuple(sorted(names))


def _judge_only(lake: Lake, table: Table, held: Held, name: str) -> IngestReport:
    """What a replay would do with the rows, with nothing written."""
    known = find_stored(lake, held.log.typed, table.refresh().current_snapshot())
    with lake.steps.step("judge", f"Judging {held.log.rows:,} rows"):
        dedup = Dedup.start(lake.spec, held.log, check_conflicts=True, known=known)
        changed = True
        while changed and not (bad := faulty(dedup.complete())).isEmpty():
            dedup, changed = dedup.without(bad)
        condemned = dedup.condemned()
    stored = known.rows if known else 0
    report = IngestReport(
        batch_id=name,
        raw_rows=held.log.rows,
        accepted_rows=dedup.books.accepted,
        duplicate_rows=dedup.books.duplicates,
        requests=dedup.books.requests - stored,
        merged_requests=stored,
        quarantined=condemned.counts,
    )
    dedup.groups.unpersist()
    if known is not None:
        known.release()
    return report
