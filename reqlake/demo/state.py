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
        if "spark" in self.__dict__:
            self.__dict__.pop("spark").stop()
