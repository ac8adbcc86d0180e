"""Warm workers: forked from one process that has imported everything, each with a session that was started ahead.

A worker that was killed takes its JVM along, so each kill costs the start of another. Three things make that cheap: the
fork (no imports: 4 s of CPU), jars on the class path (no resolution by Ivy), and a class archive of a JVM that has run
each kind of job (its classes are mapped, not parsed: half of the JVM's start, and more of its first job).
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Condition, Thread
from typing import Any

from benchmarks.soak.worker import Job, Outcome, serve
from lakehouse.settings import Settings
from spark_jobs.session import build_session

PATIENCE_S = 240.0
FORK = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload(["benchmarks.soak.worker", "feature_reader", "pyspark.sql", "great_expectations"])


class Worker:
    """One process with its orders and its diary."""

    def __init__(self, settings: Settings, diary: Path, *, with_spark: bool) -> None:
        self.with_spark, self.diary = with_spark, diary
        self.orders, theirs = FORK.Pipe()
        arguments = (theirs, settings, diary)
        self.process: Any = FORK.Process(target=serve, args=arguments, kwargs={"with_spark": with_spark}, daemon=True)
        self.process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        """Its process, which is its group as well."""
        return int(self.process.pid)

    def await_ready(self) -> None:
        """Raises RuntimeError where it dies before."""
        if not self.orders.poll(PATIENCE_S) or self._receive() != "ready":
            raise RuntimeError(f"a worker did not start: see {self.diary.with_suffix('.log')}")

    def run(self, job: Job, seconds: float | None) -> Outcome | None:
        """What becomes of a job; None where it is not done after so many seconds."""
        self.diary.unlink(missing_ok=True)
        self.orders.send(job)
        if not self.orders.poll(PATIENCE_S if seconds is None else seconds):
            return None
        answer = self._receive()
        return answer if isinstance(answer, Outcome) else Outcome("failed", f"the worker died by itself: {answer}")

    def _receive(self) -> Any:
        try:
            return self.orders.recv()
        except (EOFError, ConnectionResetError) as error:
            return repr(error)

    def last_words(self) -> str:
        """The step that the job was in."""
        with contextlib.suppress(OSError):
            lines = self.diary.read_text(encoding="utf-8", errors="replace").splitlines()
            return lines[-1] if lines else "before its first step"
        return "before its first step"

    def kill(self) -> None:
        """kill -9 of the whole process group, the JVM included; it is gone when this returns."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.join()
        self.orders.close()

    def leave(self) -> None:
        """Ask it to end by itself."""
        self.orders.send(None)
        self.process.join(PATIENCE_S)
        self.orders.close()


class Pool:
    """Workers with a session that stand ready, `size` of them; those without are forked when one is wanted."""

    def __init__(self, settings: Settings, folder: Path, size: int) -> None:
        self.settings, self.folder, self.size = settings, folder, size
        self.ready: list[Worker] = []
        self.alive = self.made = 0
        self.closed = False
        self.errors: list[str] = []
        self.changed = Condition()
        self.starter = Thread(target=self._keep, daemon=True)
        self.starter.start()

    def take(self, *, with_spark: bool) -> Worker:
        """A worker for one job or more."""
        if not with_spark:
            worker = self._make(with_spark=False)
            worker.await_ready()
            return worker
        with self.changed:
            while not self.ready:
                if self.errors:
                    raise RuntimeError(self.errors[0])
                self.changed.wait(1)
            return self.ready.pop(0)

    def give_back(self, worker: Worker) -> None:
        """One that lives on, with its JVM warm."""
        if not worker.with_spark:
            worker.kill()
            return
        with self.changed:
            self.ready.append(worker)
            self.changed.notify_all()

    def bury(self, worker: Worker) -> None:
        """One that was killed: another is started in its place."""
        if worker.with_spark:
            with self.changed:
                self.alive -= 1
                self.changed.notify_all()

    def close(self) -> None:
        """End every worker that stands ready."""
        with self.changed:
            self.closed = True
            self.changed.notify_all()
        self.starter.join()
        for worker in self.ready:
            worker.kill()

    def _make(self, *, with_spark: bool) -> Worker:
        with self.changed:
            self.made += 1
            return Worker(self.settings, self.folder / f"worker-{self.made}.txt", with_spark=with_spark)

    def _keep(self) -> None:
        """Start one worker at a time while there are too few."""
        while True:
            with self.changed:
                while self.alive >= self.size and not self.closed:
                    self.changed.wait()
                if self.closed:
                    return
                self.alive += 1
            try:
                worker = self._make(with_spark=True)
                worker.await_ready()
            except (RuntimeError, OSError) as error:
                with self.changed:
                    self.errors.append(str(error))
                    self.changed.notify_all()
                return
            self.give_back(worker)


def with_archive(settings: Settings, folder: Path, jobs: list[Job]) -> Settings:
    """Settings for a quick start: jars by path, and the class archive of a JVM that has run `jobs` on a lake aside."""
    archive = folder / "classes.jsa"
    jars = ":".join(_jars(settings))
    quick = _with_conf(settings, jars, "")
    aside = quick.model_copy(update={"home": folder / "aside"})
    if settings.catalog.is_sqlite:
        uri, warehouse = f"sqlite:///{folder}/aside/catalog.db", f"file://{folder}/aside/warehouse"
    else:
        uri, warehouse = settings.catalog.uri, f"{settings.catalog.warehouse}-aside"
    name = {"uri": uri, "warehouse": warehouse, "name": "aside", "spark_name": None}
    aside = aside.model_copy(update={"catalog": settings.catalog.model_copy(update=name)})
    dump = _with_conf(aside, jars, f"-XX:ArchiveClassesAtExit={archive}")
    worker = Worker(dump, folder / "aside.txt", with_spark=True)
    worker.await_ready()
    for job in jobs:
        outcome = worker.run(job, None)
        if outcome is None or outcome.what != "done":
            raise RuntimeError(f"{job} undisturbed: {outcome}")
    worker.leave()
    return _with_conf(settings, jars, f"-XX:SharedArchiveFile={archive}") if archive.exists() else quick


def _with_conf(settings: Settings, jars: str, options: str) -> Settings:
    conf = dict(settings.spark.conf)
    java = "spark.driver.extraJavaOptions"
    conf |= {"spark.jars.packages": "", "spark.driver.extraClassPath": jars}
    conf[java] = f"{conf.get(java, '')} {options}".strip()
    return settings.model_copy(update={"spark": settings.spark.model_copy(update={"conf": conf})})


def _jars(settings: Settings) -> list[str]:
    """Where Ivy has put what a session needs."""
    mine, theirs = FORK.Pipe()
    process: Any = FORK.Process(target=_tell_jars, args=(theirs, settings), daemon=True)
    process.start()
    theirs.close()
    found: list[str] = mine.recv()
    process.join()
    return found


def _tell_jars(answer: Connection, settings: Settings) -> None:
    spark = build_session(settings)
    jars = spark.sparkContext.getConf().get("spark.jars") or ""
    answer.send([jar.removeprefix("file://").removeprefix("file:") for jar in jars.split(",")])
    spark.stop()
