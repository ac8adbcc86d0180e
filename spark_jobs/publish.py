"""Write, audit, publish: a batch becomes visible in one step, or not at all.

The batch is appended to a branch of its own, validated there, and `main` is moved to it. The branch's name holds the
host and process of its writer, so that the next job can tell a killed writer's leftover from a running one's.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from lakehouse.ledger import BATCH, FILES
from spark_jobs.errors import BatchRefusedError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

BRANCH = re.compile(r"^audit_(?P<host>[a-z0-9]+)_(?P<pid>\d+)_")
ORPHANED = timedelta(hours=24)


def audit_branch(batch_id: str) -> str:
    """The name of this process's branch for a batch."""
    return f"audit_{_host()}_{os.getpid()}_{re.sub('[^A-Za-z0-9]', '', batch_id)[:16].lower()}"


def _host() -> str:
    return re.sub("[^a-z0-9]", "", socket.gethostname().lower())[:24] or "host"


def drop_leftovers(spark: SparkSession, table: Table, name: str) -> list[str]:
    """Drop audit branches whose writer is gone: on this host no such process, elsewhere a day old. Their names."""
    dropped = []
    for branch, ref in table.metadata.refs.items():
        match = BRANCH.match(branch)
        if match is None:
            continue
        if match["host"] == _host():
            gone = int(match["pid"]) != os.getpid() and not _alive(int(match["pid"]))
            gone = gone or int(match["pid"]) == os.getpid()  # jobs of one process follow each other
        else:
            snapshot = table.snapshot_by_id(ref.snapshot_id)
            made = datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC) if snapshot else datetime.now(UTC)
            gone = datetime.now(UTC) - made > ORPHANED
        if gone:
            spark.sql(f"ALTER TABLE {name} DROP BRANCH IF EXISTS `{branch}`")
            dropped.append(branch)
    return dropped


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextmanager
def branch_of(spark: SparkSession, name: str, branch: str) -> Iterator[None]:
    """A branch of the table for the time of one batch, dropped whatever happens."""
    spark.sql(f"ALTER TABLE {name} CREATE OR REPLACE BRANCH `{branch}`")
    try:
        yield
    finally:
        spark.sql(f"ALTER TABLE {name} DROP BRANCH IF EXISTS `{branch}`")


def reset_branch(name: str, branch: str, head: Snapshot) -> str:
    """SQL that takes a branch back to before its head was written."""
    return f"ALTER TABLE {name} CREATE OR REPLACE BRANCH `{branch}` AS OF VERSION {head.parent_snapshot_id}"


def append_batch(requests: DataFrame, target: str, batch_id: str, files: str) -> None:
    """Append requests to a branch; the snapshot's summary names the batch and its files."""
    (
        requests.writeTo(target)
        .option("check-nullability", "false")
        .option(f"snapshot-property.{BATCH}", batch_id)
        .option(f"snapshot-property.{FILES}", files)
        .append()
    )


def publish(spark: SparkSession, name: str, branch: str) -> None:
    """Move main to the branch. Raises BatchRefusedError where main has moved on meanwhile."""
    from py4j.protocol import Py4JError  # type: ignore[import-untyped]
    from pyspark.errors import PySparkException

    catalog = name.split(".", maxsplit=1)[0]
    try:
        spark.sql(f"CALL {catalog}.system.fast_forward('{name}', 'main', '{branch}')").collect()
    except (PySparkException, Py4JError) as error:
        if "ancestor" not in str(error):
            raise
        raise BatchRefusedError(
            f"{name} was changed by another job while this batch was being written: nothing was published, run it again"
        ) from error
