"""A process that runs jobs: started ahead with a session, told one job after the other, and killed at any moment.

What a job says of its progress goes into a diary line by line, so that whoever kills it can read how far it was.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

from benchmarks.soak.data import FEATURE, SPEC
from lakehouse.catalog import open_catalog
from lakehouse.errors import CatalogError, FormatError, LeaseError, ReqlakeError, TableMissingError
from lakehouse.schema import open_request_table, table_spec
from lakehouse.settings import Settings
from lakehouse.spec import DatasetSpec, Partition
from spark_jobs import backfill, compact, erase, expire, ingest, label_batch, maintain, orphans, rebucket
from spark_jobs.erase_users import users_of
from spark_jobs.errors import EraseError, MainMovedError, RebucketError
from spark_jobs.session import build_session

Kind = Literal["ingest", "labels", "compact", "maintain", "backfill", "erase", "expire", "rebucket", "orphans"]
WITHOUT_SPARK = ("expire", "orphans")
BUSY = (LeaseError, MainMovedError, FormatError)
"""Errors that say that another job is at work, or has changed the table's spec meanwhile: run it again."""


@dataclass
class Job:
    """One job of a round, and what became of it so far."""

    kind: Kind
    name: str
    argument: Any = None
    kills: int = 0
    refused: int = 0

    @property
    def needs_spark(self) -> bool:
        """Whether a worker with a session has to run it."""
        return self.kind not in WITHOUT_SPARK


@dataclass(frozen=True)
class Outcome:
    """`done`, `busy` (a clear error: run it again) or `failed`, which nothing may."""

    what: Literal["done", "busy", "failed"]
    told: str = ""
    facts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Doing:
    """What a job works with."""

    spark: Any
    settings: Settings
    spec: DatasetSpec
    job: Job
    says: Callable[[str], None]


def _ingest(do: Doing) -> None:
    ingest.run(do.spark, do.settings, do.spec, [do.job.argument], batch_id=do.job.name, progress=do.says)


def _labels(do: Doing) -> None:
    label_batch.run(do.spark, do.settings, do.spec, [do.job.argument], batch_id=do.job.name, progress=do.says)


def _compact(do: Doing) -> None:
    compact.run(do.spark, do.settings, do.spec, every=True, progress=do.says)


def _maintain(do: Doing) -> None:
    maintain.run(lambda: do.spark, do.settings, do.spec, progress=do.says)


def _backfill(do: Doing) -> None:
    backfill.run(do.spark, do.settings, do.spec, FEATURE, do.job.argument, progress=do.says)


def _erase(do: Doing) -> None:
    erase.run(do.spark, do.settings, do.spec, users_of([str(do.job.argument)], do.spec), yes=True, progress=do.says)


def _expire(do: Doing) -> None:
    expire.run(do.settings, do.spec, progress=do.says)


def _rebucket(do: Doing) -> None:
    wanted = Partition(grain=do.spec.partition.grain, buckets=do.job.argument)
    if do.spec.partition != wanted:  # a run that was killed after its swap is done
        rebucket.run(do.spark, do.settings, do.spec, wanted, progress=do.says)
    do.says("Dropping the table of before")
    rebucket.drop_kept(do.settings, do.spec)


def _orphans(do: Doing) -> None:
    """Alone, so that no file of a writer is young."""
    limits = do.settings.maintenance.model_copy(update={"orphan_hours": 0})
    orphans.run(do.settings.model_copy(update={"maintenance": limits}), do.spec, progress=do.says)


RUN: dict[Kind, Callable[[Doing], None]] = {
    "ingest": _ingest,
    "labels": _labels,
    "compact": _compact,
    "maintain": _maintain,
    "backfill": _backfill,
    "erase": _erase,
    "expire": _expire,
    "rebucket": _rebucket,
    "orphans": _orphans,
}


def serve(orders: Connection, settings: Settings, diary: Path, *, with_spark: bool) -> None:
    """A worker's life: a session, then one job after the other until the orders end."""
    os.setsid()  # a process group of its own, the JVM's included
    log = os.open(diary.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    spark = build_session(settings) if with_spark else None
    if spark is not None:
        spark.sql("SELECT 1").collect()
    orders.send("ready")
    while True:
        try:
            job: Job | None = orders.recv()
        except EOFError:
            return
        if job is None:
            _leave(spark)
            return
        orders.send(attempt(spark, settings, job, diary))


def attempt(spark: Any, settings: Settings, job: Job, diary: Path) -> Outcome:
    """Run a job once; whatever it raises is told."""
    with diary.open("w", encoding="utf-8", buffering=1) as lines:
        try:
            doing = Doing(spark, settings, _spec(settings), job, lambda text: print(text, file=lines))
            RUN[job.kind](doing)
        except ReqlakeError as error:
            told = f"{type(error).__name__}: {error}"
            return Outcome("busy" if _is_busy(error) else "failed", told if _is_busy(error) else traceback.format_exc())
        except Exception:  # noqa: BLE001 - whatever it is, it is what the soak looks for
            return Outcome("failed", traceback.format_exc())
    return Outcome("done")


def _is_busy(error: ReqlakeError) -> bool:
    running = isinstance(error, EraseError) and "an ingest is running" in str(error)
    locked = isinstance(error, CatalogError) and any(told in str(error) for told in ("locked", "run this again"))
    changing = isinstance(error, RebucketError) and "run this again" in str(error)
    return isinstance(error, BUSY) or running or locked or changing


def _spec(settings: Settings) -> DatasetSpec:
    """The table's own spec, which a backfill or a rebucket has changed; before there is a table, the first."""
    try:
        return table_spec(open_request_table(open_catalog(settings), SPEC, settings))
    except TableMissingError:
        return SPEC


def _leave(spark: Any) -> None:
    """End as a process does that nobody kills, the JVM first (it writes its class archive then)."""
    if spark is not None:
        gateway = type(spark.sparkContext)._gateway  # noqa: SLF001
        spark.stop()
        gateway.shutdown()
        gateway.proc.stdin.close()
        gateway.proc.wait(120)
    sys.stdout.flush()
