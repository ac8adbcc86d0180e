"""Erase: users leave every table of a dataset, every snapshot, tag and branch, and then it is proved.

    learn → ask → delete → rebuild or drop tags → drop branches → squash → expire → clear → decode everything → report

Deleting rows rewrites the files that hold them. A squash then drops the entries, with their bounds, of the files that
went; expiry drops old snapshots with their files; what no metadata references and still speaks of a user is removed.
Each step does nothing where it was done before, so a job that died is made good by running it again.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pyiceberg.catalog import Catalog
from pyiceberg.table import Table
from pyiceberg.table.refs import SnapshotRefType

from lakehouse.audit_branches import audit_branches
from lakehouse.catalog import open_catalog
from lakehouse.lease import maintenance_lease
from lakehouse.ledger import Ledger
from lakehouse.schema import open_request_table, table_spec
from lakehouse.settings import Settings
from lakehouse.spec import DatasetSpec
from lakehouse.tags.sets import NEW, READER, SUCCESSOR, drop_tag, retag_properties
from lakehouse.upkeep.squash import is_squashed, squash
from lakehouse.upkeep.state import TableState
from lakehouse.upkeep.wanted import Wanted
from spark_jobs import expire
from spark_jobs.alter import alter
from spark_jobs.erase_buried import buried, files_anew, unearth
from spark_jobs.erase_plan import tables_of
from spark_jobs.erase_proof import prove
from spark_jobs.erase_reach import checkpoints, logs, raw_logs
from spark_jobs.erase_report import ErasedTable, EraseReport, write_report
from spark_jobs.erase_rows import conditions, rows_held
from spark_jobs.erase_users import Users
from spark_jobs.erase_wanted import Draft, Learned, known, learn
from spark_jobs.errors import EraseError
from spark_jobs.guard import job
from spark_jobs.layout import order_writes
from spark_jobs.orphans import clear
from spark_jobs.publish import drop_leftovers
from spark_jobs.report import Progress

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

Tags = Literal["rebuild", "drop"]
DISTRIBUTION = "spark.sql.iceberg.distribution-mode"


@dataclass
class Erasing:
    """What every step works with, and what they have done."""

    spark: SparkSession
    settings: Settings
    catalog: Catalog
    spec: DatasetSpec
    users: Users
    learned: Learned = field(default_factory=Learned)
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    rebuilt: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    branches: list[str] = field(default_factory=list)
    snapshots: int = 0
    files: int = 0

    def in_spark(self, table: Table) -> str:
        """A table's name with its catalog."""
        return ".".join((self.settings.catalog.in_spark, *table.name()))

    @cached_property
    def wanted(self) -> Wanted:
        """Who is looked for."""
        return known(Wanted.of(self.spec, self.users.ids, self.users.texts), self.learned, self.spec)


def run(
    spark: SparkSession,
    settings: Settings,
    spec: DatasetSpec,
    users: Users,
    *,
    yes: bool = False,
    tags: Tags = "rebuild",
    progress: Progress = lambda _: None,
) -> tuple[EraseReport, Path]:
    """Erase users and write the report below the lake's home; the report and its text's path.

    Training sets that hold the users are rebuilt without them under new snapshots, or dropped, only with `yes`. Raises
    EraseError where it is missing, where an ingest is running, or where the proof fails (the report is written then as
    well); LeaseError while another maintenance job runs.
    """
    began = time.perf_counter()
    catalog = open_catalog(settings)
    with maintenance_lease(catalog, spec, settings, "erase") as lease, job(spark, settings):
        request_table = open_request_table(catalog, spec, settings)
        draft = Draft(settings.home, spec.name, users.digest)
        drop_leftovers(spark, request_table, f"{settings.catalog.in_spark}.{spec.table()}")
        _refuse_ingest(request_table.refresh())
        Ledger(catalog, spec, settings).recover(request_table)
        tables = tables_of(catalog, spec, settings)
        progress("Looking for the users in every table, tag and branch")
        wanted = Wanted.of(spec, users.ids, users.texts)
        erasing = Erasing(spark, settings, catalog, spec, users, learn(tables, spec, wanted, earlier=draft.read()))
        _ask(tables, erasing, yes=yes)
        draft.write(erasing.learned.theirs)
        erased = []
        for table in tables:
            progress(f"Erasing from {'.'.join(table.name())}")
            erased.append(erase_from(table, erasing, tags))
            lease.renew()
        progress("Decoding every file under the warehouse")
        decoded, others, removed = prove(tables, settings, spec, erasing.wanted, erasing.started)
        report = EraseReport(
            dataset=spec.name,
            users=len(users.ids),
            digest=users.digest,
            at=erasing.started.isoformat(timespec="seconds"),
            tables=tuple(erased),
            tags_rebuilt=tuple(erasing.rebuilt),
            tags_dropped=tuple(erasing.dropped),
            branches_dropped=tuple(erasing.branches),
            snapshots_expired=erasing.snapshots,
            files_removed=erasing.files + removed,
            **erasing.learned.counts,
            decoded=decoded.files,
            traces=decoded.traces,
            other_datasets=others,
            raw_logs=raw_logs(catalog, spec, settings),
            checkpoints=checkpoints(settings, spec),
            logs=logs(settings, users),
            seconds=time.perf_counter() - began,
        )
        written = write_report(report, settings.home / "reports")
    if not report.proved:
        raise EraseError(
            f"erased users are still found in {len(report.traces)} places, such as {report.traces[0].path} "
            f"({report.traces[0].what}): see {written}, and run it again when no other job writes"
        )
    draft.remove()
    return report, written


def _refuse_ingest(table: Table) -> None:
    running = [branch.name for branch in audit_branches(table)]
    if running:
        raise EraseError(f"an ingest is running on {'.'.join(table.name())} ({running[0]}): erase when it has ended")


def _ask(tables: list[Table], erasing: Erasing, *, yes: bool) -> None:
    held = [
        f"{'.'.join(table.name())} {ref.snapshot_ref_type.value} {name!r}"
        for table in tables
        for name, ref in table.metadata.refs.items()
        if name != "main" and _holds(table, erasing, ref.snapshot_id)
    ]
    if held and not yes:
        raise EraseError(
            f"the users are in {', '.join(held[:5])}{' and more' * (len(held) > 5)}: these are rebuilt without them "
            f"under new snapshot ids (or dropped, with --tags drop). Nothing was erased; say --yes to go on"
        )


def _holds(table: Table, erasing: Erasing, snapshot_id: int) -> bool:
    """Whether rows of the users can be read in a snapshot, or lie deleted in its files."""
    wanted = erasing.wanted
    return bool(rows_held(table, wanted, snapshot_id)) or bool(buried(table, wanted, snapshot_id))


def erase_from(table: Table, erasing: Erasing, tags: Tags) -> ErasedTable:
    """Every step on one table; what its current state lost."""
    before, rows, current = TableState.of(table), 0, table.current_snapshot()
    if current is not None:
        rows = rows_held(table, erasing.wanted, current.snapshot_id)
        if rows or _holds(table, erasing, current.snapshot_id):
            delete_rows(table, erasing, erasing.in_spark(table), current.snapshot_id)
    _clean_refs(table.refresh(), erasing, tags)
    current = table.refresh().current_snapshot()
    if current is not None and not is_squashed(table, "main"):
        squash(table, "main", erasing.settings, properties=_successors(table, current.snapshot_id))
    gone = expire.due(table, 0, 1)
    erasing.snapshots += len(gone)
    erasing.files += expire.expire(table, gone, erasing.settings)[0]
    age = timedelta(hours=erasing.settings.maintenance.orphan_hours)
    erasing.files += clear(table, age).removed_files
    after = TableState.of(table.refresh())
    name = ".".join(table.name())
    return ErasedTable(name, rows, before.files, after.files, before.file_bytes, after.file_bytes)


def delete_rows(table: Table, erasing: Erasing, target: str, snapshot_id: int) -> None:
    """Delete the users' rows from a table or one of its branches, rewriting the files that hold them, in order."""
    spark, theirs = erasing.spark, conditions(erasing.spark, table, erasing.wanted)
    names = {f.name for f in table.schema().fields}
    if {"user_id", "request_id", "request_hash", "item_id"} <= names and "reqlake.spec" in table.properties:
        order_writes(erasing.spark, table, erasing.in_spark(table))
    unearth(spark, table, target, buried(table, erasing.wanted, snapshot_id), theirs)
    spark.conf.set(DISTRIBUTION, "none")  # by default what is left of a file is shuffled to its partition
    try:
        with files_anew(spark, table.refresh(), erasing.in_spark(table)):
            for condition in theirs:
                spark.sql(f"DELETE FROM {target} WHERE {condition}")
    finally:
        spark.conf.unset(DISTRIBUTION)


def _clean_refs(table: Table, erasing: Erasing, tags: Tags) -> None:
    """Rebuild or drop what holds the users; whatever is left of old snapshots would keep their files."""
    for name, ref in list(table.metadata.refs.items()):
        if name == "main":
            continue
        if ref.snapshot_ref_type == SnapshotRefType.BRANCH:
            if _holds(table, erasing, ref.snapshot_id) or name.startswith("erase_"):
                alter(erasing.spark, erasing.in_spark(table), f"DROP BRANCH IF EXISTS `{name}`")
                erasing.branches.append(name)
                table.refresh()
        elif _holds(table, erasing, ref.snapshot_id) or not _is_clean(table, ref.snapshot_id):
            if tags == "drop" or name.startswith(READER):
                _drop(table, name, erasing)
            else:
                _rebuild(table, name, ref.snapshot_id, erasing)


def _is_clean(table: Table, snapshot_id: int) -> bool:
    """Whether no manifest of a snapshot has an entry of a deleted file, which would keep its bounds."""
    snapshot = table.snapshot_by_id(snapshot_id)
    return not any((m.deleted_files_count or 0) for m in (snapshot.manifests(table.io) if snapshot else ()))


def _drop(table: Table, name: str, erasing: Erasing) -> None:
    own = "reqlake.spec" in table.properties and ".".join(table.name()) == table_spec(table).table()
    if own and not name.startswith(READER):  # the table of before a rebucket has tags, but is nobody's training set
        drop_tag(erasing.catalog, table_spec(table), erasing.settings, name)
    else:
        alter(erasing.spark, erasing.in_spark(table), f"DROP TAG IF EXISTS `{name}`")
    erasing.dropped.append(name)
    table.refresh()


def _rebuild(table: Table, name: str, snapshot_id: int, erasing: Erasing) -> None:
    """Move a tag to what is left of its rows."""
    # The delete writes with the table's schema of today; the set keeps the one that it was made with.
    old = table.snapshot_by_id(snapshot_id)
    target, branch = erasing.in_spark(table), f"erase_{re.sub('[^A-Za-z0-9]', '_', name)}"
    alter(erasing.spark, target, f"CREATE OR REPLACE BRANCH `{branch}` AS OF VERSION {snapshot_id}")
    delete_rows(table.refresh(), erasing, f"{target}.`branch_{branch}`", snapshot_id)
    properties = retag_properties(table.refresh(), name, replaced=snapshot_id)
    schema_id = old.schema_id if old is not None else None
    squash(table, branch, erasing.settings, tag=name, schema_id=schema_id, properties=properties)
    erasing.rebuilt.append(name)


def _successors(table: Table, head: int) -> dict[str, str]:
    """Main's old snapshots lead to the squash, which holds what is left."""
    old = [s.snapshot_id for s in table.metadata.snapshots if s.snapshot_id != head]
    held = {ref.snapshot_id for ref in table.metadata.refs.values()}
    return {
        f"{SUCCESSOR}{s}": NEW
        for s in (*old, head)
        if (s == head or s not in held) and f"{SUCCESSOR}{s}" not in table.properties
    }
