"""The one Spark session that jobs run in where nobody hands them another.

Everything static is set here, and only here: the catalog, the jars, UTC, the worker's Python. What the JVM prints
(Ivy's resolution, log4j) goes to a log file, not to the terminal; errors reach the caller as exceptions.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from lakehouse.catalog import open_catalog, spark_catalog_conf
from lakehouse.errors import NotInstalledError
from lakehouse.settings import S3Settings, Settings
from spark_jobs.errors import SessionError
from spark_jobs.java import find_java

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ICEBERG = "1.11.0"


@dataclass(frozen=True)
class Pins:
    """What goes with a line of Spark: its Scala, the patch of its Avro module, and the Javas that it runs on.

    Spark's own modules run on other patches of their line, and not every mirror has the newest.
    """

    scala: str
    avro: str
    java: tuple[int, ...]


PINS = {"4.1": Pins("2.13", "4.1.1", (17, 21)), "3.5": Pins("2.12", "3.5.7", (17,))}
"""The lines of Spark that the jobs are tested on (docs/ingest.md)."""
S3_JARS = (f"org.apache.iceberg:iceberg-aws-bundle:{ICEBERG}",)
EXTENSIONS = "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions"


def spark_line() -> str:
    """The installed Spark, as `4.1`. Raises NotInstalledError, SessionError for a line that the jobs do not run on."""
    try:
        line = ".".join(version("pyspark").split(".")[:2])
    except PackageNotFoundError as error:
        raise NotInstalledError("pyspark", "spark") from error
    if line not in PINS:
        raise SessionError(f"pyspark {line} is installed, the jobs run on {' and '.join(PINS)}: install one of those")
    return line


def session_conf(settings: Settings) -> dict[str, str]:
    """Every property of the session, as `spark-submit --conf` would take them on a company's own cluster.

    Raises NotInstalledError without pyspark, SessionError for a Spark that the jobs do not run on.
    """
    spark, s3, line = settings.spark, settings.catalog.warehouse.startswith("s3"), spark_line()
    jars = (
        f"org.apache.iceberg:iceberg-spark-runtime-{line}_{PINS[line].scala}:{ICEBERG}",
        f"org.apache.spark:spark-avro_{PINS[line].scala}:{PINS[line].avro}",
        "org.xerial:sqlite-jdbc:3.50.3.0",
        "org.postgresql:postgresql:42.7.7",
        *(S3_JARS if s3 else ()),
        *spark.jars,
    )
    return (
        {
            "spark.master": spark.master,
            "spark.driver.memory": spark.driver_memory,
            "spark.jars.packages": ",".join(jars),
            "spark.sql.extensions": EXTENSIONS,
            "spark.sql.session.timeZone": "UTC",
            "spark.sql.shuffle.partitions": str(spark.shuffle_partitions),
            # At the default of 128 keys a task's collect_list falls back to sorting: 5.4 s against 2.1 s.
            "spark.sql.objectHashAggregate.sortBased.fallbackThreshold": "65536",
            "spark.sql.execution.arrow.pyspark.enabled": "true",
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
            # Each stage tells its plan as text to a UI that is off; ours are long.
            "spark.sql.ui.explainMode": "simple",
            "spark.sql.maxPlanStringLength": "8192",
            # For each call on a column PySpark would tell the JVM its line in Python, by some ten calls more, and the
            # JVM keep its own stack: both only for the text of errors.
            "spark.python.sql.dataFrameDebugging.enabled": "false",
            "spark.sql.dataFrameQueryContext.enabled": "false",
            "spark.log.level": "ERROR",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.driver.host": "127.0.0.1",
            "spark.sql.warehouse.dir": str(settings.home / "spark-warehouse"),
        }
        | spark_catalog_conf(settings)
        | (_s3a(settings.s3) if any("hadoop-aws" in jar for jar in spark.jars) else {})
        | spark.conf
    )


def _s3a(s3: S3Settings) -> dict[str, str]:
    """Hadoop's own S3, for raw files that Spark itself reads there."""
    told = {"endpoint.region": s3.region, "path.style.access": str(s3.path_style).lower()}
    if s3.endpoint:
        told |= {"endpoint": s3.endpoint, "connection.ssl.enabled": str(s3.endpoint.startswith("https")).lower()}
    if s3.access_key and s3.secret_key:
        told |= {"access.key": s3.access_key, "secret.key": s3.secret_key.get_secret_value()}
    return {f"spark.hadoop.fs.s3a.{name}": value for name, value in told.items()}


def build_session(settings: Settings, *, wheel_java: bool = False) -> SparkSession:
    """Start Spark (6 to 9 s), or give the session of this process with the catalog of these settings.

    Under `spark-submit` it is the session that was prepared there, with its own catalog and jars. `wheel_java` takes
    the wheel's Java even where another is there. Raises NotInstalledError without pyspark, JavaMissingError,
    SessionError with the end of Spark's log, CatalogError.
    """
    try:
        from pyspark import SparkConf, SparkContext
        from pyspark.errors import PySparkException
        from pyspark.java_gateway import launch_gateway
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise NotInstalledError("pyspark", "spark") from error
    open_catalog(settings)  # PyIceberg makes the catalog's tables; Spark is told not to
    conf = session_conf(settings)
    running = SparkContext._active_spark_context  # noqa: SLF001
    if running is None and "PYSPARK_GATEWAY_PORT" in os.environ:
        return SparkSession.builder.appName("reqlake").getOrCreate()
    if running is not None:
        session = SparkSession(running).newSession()  # of its own catalogs, in the same JVM
        for key, value in spark_catalog_conf(settings).items():
            session.conf.set(key, value)
        return session
    log = _log_file(settings)
    logging.getLogger("py4j").setLevel(logging.CRITICAL)  # what it logs as an error it raises as well
    with _environment(settings, wheel_java), _own_ctrl_c(), log.open("ab") as sink:
        spark_conf = SparkConf().setAppName("reqlake").setAll(list(conf.items()))
        try:
            gateway = launch_gateway(  # type: ignore[no-untyped-call]
                conf=spark_conf, popen_kwargs={"stdout": sink, "stderr": sink}
            )
            context = SparkContext(conf=spark_conf, gateway=gateway)
        except (PySparkException, OSError) as error:
            lines = log.read_text(errors="replace").splitlines()
            told = [line for line in lines[-40:] if any(word in line for word in ("Exception", "rror", "not found"))]
            cause = "\n  ".join(told or lines[-1:] or [str(error)])
            raise SessionError(f"Spark did not start (the whole log: {log}):\n  {cause}") from error
        session = SparkSession(context)
    session.sparkContext.setLogLevel("ERROR")
    return session


def _log_file(settings: Settings) -> Path:
    folder = settings.home / "logs"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        folder = Path(tempfile.mkdtemp(prefix="reqlake-logs-"))
    return folder / "spark.log"


@contextmanager
def _own_ctrl_c() -> Iterator[None]:
    """Keep this process's answer to Ctrl-C.

    PySpark puts one of its own there, which calls the JVM on the connection that the interrupted call still reads from:
    what comes of that is a Py4JError, not a KeyboardInterrupt. A JVM without its parent ends by itself.
    """
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)


@contextmanager
def _environment(settings: Settings, wheel_java: bool) -> Iterator[None]:
    """What Spark's launcher reads from the environment, for the time of the launch."""
    wanted = {
        "JAVA_HOME": str(find_java(settings.spark.java_home, wheel=wheel_java, versions=PINS[spark_line()].java)),
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_DRIVER_PYTHON": sys.executable,
    }
    if settings.spark.master.startswith("local"):
        wanted["SPARK_LOCAL_IP"] = "127.0.0.1"
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
