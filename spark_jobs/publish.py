"""Write, audit, publish: a batch becomes visible in one step, or not at all.

The batch is written to a branch of its own, validated there, and `main` is moved to it: never by force, so that a job
whose main has moved on meanwhile has to start again. The branch's name holds the host and process of its writer, so
that the next job can tell a killed writer's leftover from a running one's.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from lakehouse.audit_branches import audit_branches
from lakehouse.errors import AuditError
from lakehouse.ledger import BATCH, FILES
from spark_jobs.alter import alter
from spark_jobs.errors import BatchRefusedError, MainMovedError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

MOVED = ("ancestor", "CommitFailedException", "Table metadata refresh is required")
DELETE_MODE = "write.delete.mode"
_open_branches: set[str] = set()


def drop_leftovers(spark: SparkSession, table: Table, name: str) -> list[str]:
    """Drop audit branches whose writer is gone: on this host no such process, elsewhere a day old. Their names."""
    dropped = []
    for branch in audit_branches(table):
        mine = branch.here and branch.pid == os.getpid()
        if branch.name not in _open_branches if mine else not branch.may_be_written:
            alter(spark, name, f"DROP BRANCH IF EXISTS `{branch.name}`")
            dropped.append(branch.name)
    return dropped


@contextmanager
def branch_of(spark: SparkSession, name: str, branch: str, base: Snapshot | None) -> Iterator[None]:
    """A branch of the table for the time of one batch, from `base` on, dropped whatever happens."""
    of = f" AS OF VERSION {base.snapshot_id}" if base else ""
    _open_branches.add(branch)
    try:
        alter(spark, name, f"CREATE OR REPLACE BRANCH `{branch}`{of}")
        yield
    finally:
        _open_branches.discard(branch)  # first: where the catalog cannot drop it now, the next job has to
        alter(spark, name, f"DROP BRANCH IF EXISTS `{branch}`")


def reset_branch(spark: SparkSession, name: str, branch: str, head: Snapshot) -> None:
    """Take a branch back to before its head was written."""
    alter(spark, name, f"CREATE OR REPLACE BRANCH `{branch}` AS OF VERSION {head.parent_snapshot_id}")


def append_batch(requests: DataFrame, target: str, batch_id: str, files: str) -> None:
    """Append requests to a branch; the snapshot's summary names the batch and its files."""
    (
        requests.writeTo(target)
        .option("check-nullability", "false")
        .option(f"snapshot-property.{BATCH}", batch_id)
        .option(f"snapshot-property.{FILES}", files)
        .append()
    )


def delete_by_position(spark: SparkSession, table: Table, name: str) -> None:
    """Let deletes write positions beside the data files, not the files anew (docs/decisions/0007-late-merge.md)."""
    if table.properties.get(DELETE_MODE) != "merge-on-read":
        alter(spark, name, f"SET TBLPROPERTIES ('{DELETE_MODE}' = 'merge-on-read')")


def head_of(table: Table, branch: str) -> Snapshot:
    """The snapshot that a branch points to now."""
    snapshot = table.refresh().snapshot_by_name(branch)
    if snapshot is None:
        raise BatchRefusedError(f"the audit branch {branch} was dropped by somebody: run this again")
    return snapshot


def added(head: Snapshot) -> int:
    """Rows that a snapshot's commit added."""
    return int((head.summary.additional_properties if head.summary else {}).get("added-records", "0"))


def appended(spark: SparkSession, name: str, head: Snapshot) -> DataFrame:
    """The rows of one commit."""
    reader = spark.read.option("start-snapshot-id", str(head.parent_snapshot_id))
    return reader.option("end-snapshot-id", str(head.snapshot_id)).table(name)


def require_taken_out(name: str, head: Snapshot, rows: int) -> None:
    """Raises AuditError where a commit deleted another number of rows than are written anew."""
    told = head.summary.additional_properties if head.summary else {}
    # Positions that a file had lost already are written again with the new ones.
    gone = int(told.get("added-position-deletes", "0")) - int(told.get("removed-position-deletes", "0"))
    if gone != rows:
        raise AuditError(
            f"{name}: {gone} rows were taken out to be written anew, but {rows} were read: nothing was published, run "
            f"it again, and report it if that does not help"
        )


def publish(spark: SparkSession, name: str, branch: str) -> None:
    """Move main to the branch. Raises MainMovedError where main has moved on meanwhile."""
    from py4j.protocol import Py4JError  # type: ignore[import-untyped]
    from pyspark.errors import PySparkException

    catalog = name.split(".", maxsplit=1)[0]
    try:
        spark.sql(f"CALL {catalog}.system.fast_forward('{name}', 'main', '{branch}')").collect()
    except (PySparkException, Py4JError) as error:
        if not any(mark in str(error) for mark in MOVED):
            raise
        raise MainMovedError(
            f"{name} was changed by another job while this batch was being written: nothing was published, run it again"
        ) from error
