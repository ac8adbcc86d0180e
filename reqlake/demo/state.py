"""What the demo's steps hand on to each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from lakehouse.settings import Settings
from lakehouse.spec import DatasetSpec, load_spec
from reqlake.demo.movielens import SPEC, RawLog
from reqlake.demo.summary import Summary

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@dataclass
class Demo:
    """A run: where it lies, what it prints to, what it has found so far."""

    folder: Path
    settings: Settings
    console: Console
    users: int | None = None
    spec: DatasetSpec = field(default_factory=lambda: load_spec(SPEC))
    summary: Summary = field(default_factory=Summary)
    log: RawLog | None = None

    @property
    def raw(self) -> list[str]:
        """The raw log, as jobs take it."""
        return [str(self.folder / "raw")]

    @property
    def run(self) -> Path:
        """The training run's folder."""
        return self.folder / "run"

    @cached_property
    def spark(self) -> SparkSession:
        """The session, started at first use."""
        from spark_jobs.session import build_session

        return build_session(self.settings)

    def stop_spark(self) -> None:
        """Give Spark's memory back, if it was started."""
        if "spark" not in self.__dict__:
            return
        from pyspark import SparkContext

        self.__dict__.pop("spark").stop()
        gateway, SparkContext._gateway, SparkContext._jvm = SparkContext._gateway, None, None  # noqa: SLF001
        if gateway is not None:  # `stop` ends the context alone: its JVM of 2.5 GB stays until this process ends
            gateway.shutdown()
            gateway.proc.stdin.close()
            gateway.proc.wait()
