"""What surrounds a job: the runtime settings it needs, and errors of the engine in the project's words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lakehouse.catalog import CLOCKS, catalog_errors, redact
from lakehouse.errors import CatalogError, RawDataError
from lakehouse.settings import Settings
from spark_jobs.errors import SessionError
from spark_jobs.scan import WHOLE_FILES

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# Runtime settings only: a job sets nothing static, so it runs in whatever session it is given.
NEEDED = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "true",
    # At the default of 128 keys a task's collect_list falls back to sorting: 5.4 s against 2.1 s.
    "spark.sql.objectHashAggregate.sortBased.fallbackThreshold": "65536",
}
UNWRITABLE = (
    "Permission denied",
    "Not a directory",
    "is not a directory",
    "Read-only file system",
    "Mkdirs failed",
    "AccessDenied",
    "No space left",
)
UNREACHABLE = (
    "An I/O error occurred while sending to the backend",
    "refused. Check that the hostname and port",
    "This connection has been closed",
    "terminating connection",
    "the database system is",
    "java.net.ConnectException",
)
BEFORE_THE_LAST = ("Invalid update timestamp", "Expected sorted snapshot log")
UNREADABLE = ("is not a Parquet file", "FAILED_READ_FILE", "Could not read footer")


@contextmanager
def job(spark: SparkSession, settings: Settings) -> Iterator[None]:
    """Run a job's body with the settings that it needs; they are put back afterwards.

    Raises CatalogError for a warehouse that cannot be written and a catalog that is locked or gone, RawDataError for a
    raw file that breaks off in the middle, SessionError for a session of Spark Connect.
    """
    if not hasattr(spark, "_jsparkSession"):
        raise SessionError(
            "this is a session of Spark Connect, which jobs cannot use: they reach into the JVM. Run "
            "them where the driver is, by spark-submit (docs/ingest.md)"
        )
    from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]
    from pyspark.errors import PySparkException

    before = {name: spark.conf.get(name, None) for name in (*NEEDED, *WHOLE_FILES)}
    for name, needed in NEEDED.items():
        spark.conf.set(name, needed)
    try:
        with catalog_errors(settings):
            yield
    except (PySparkException, Py4JJavaError) as error:
        known = _in_our_words(str(error), settings)
        if known is None:
            raise
        raise known from error
    except OSError as error:
        raise CatalogError(f"cannot write to the lake {settings.catalog.warehouse}: {error}") from error
    finally:
        for name, value in before.items():
            if value is None:
                spark.conf.unset(name)
            else:
                spark.conf.set(name, value)


def _in_our_words(text: str, settings: Settings) -> CatalogError | RawDataError | None:
    marks = (*UNWRITABLE, *UNREACHABLE, *BEFORE_THE_LAST, *UNREADABLE)
    cause = next((line.strip() for line in text.splitlines() if any(m in line for m in marks)), "")
    if any(mark in text for mark in UNWRITABLE):
        return CatalogError(
            f"the warehouse {settings.catalog.warehouse} cannot be written: {cause}. Fix the permissions, make "
            f"room, or set REQLAKE_HOME to a folder of yours"
        )
    if "SQLITE_BUSY" in text or "database is locked" in text:
        return CatalogError(
            f"the catalog {redact(settings.catalog.uri)} is locked by another process: wait for its commit and "
            f"run this again, or use Postgres for concurrent writers"
        )
    if any(mark in text for mark in UNREACHABLE):
        return CatalogError(
            f"the catalog {redact(settings.catalog.uri)} cannot be reached: {cause}. When it is up, run this again, "
            f"which finds out whether what was on its way has arrived"
        )
    if any(mark in text for mark in BEFORE_THE_LAST):
        return CatalogError(f"the newest snapshot is ahead of this machine's clock ({cause}): {CLOCKS}")
    if "CANNOT_MERGE_SCHEMAS" in text:
        return RawDataError(
            "the raw files hold one column under two types: write one of them again, or ingest them apart"
        )
    if any(mark in text for mark in UNREADABLE):
        return RawDataError(f"a raw file breaks off or is damaged: {cause}. Write it again")
    return None
