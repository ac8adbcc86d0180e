"""Ingest as a stream: Spark Structured Streaming finds new files or snapshots, and calls the batch job on them.

The stream carries no rows: of files it reads the paths alone (Spark's `binaryFile`, whose content nobody asks for), of
a table nothing at all. What makes each batch exactly once is the ledger, not the checkpoint: a stream that is killed
between finding a file and publishing it finds it again, and one killed after publishing is told that it is known. The
checkpoint only keeps the stream from looking at every file again. Spark speaks of a path once, so files that are not
whole yet are remembered beside the checkpoint until they are.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse

from lakehouse.errors import RawDataError
from lakehouse.raw.places import S3, belongs, fixed_part, is_folder, on_s3
from lakehouse.settings import Settings
from lakehouse.spec import DatasetSpec
from spark_jobs import ingest
from spark_jobs.files import sort_out
from spark_jobs.report import IngestReport, Progress
from spark_jobs.scan import for_hadoop
from spark_jobs.sources import TableRange

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming.query import StreamingQuery

WAITING = "waiting.json"
FOUND = "path STRING, modificationTime TIMESTAMP, length LONG, content BINARY"
TICK = 1  # seconds between looks at whether the stream still runs


@dataclass
class Stream:
    """A stream from one folder or pattern, or from one table, into the request table of a spec.

    `every`: seconds between two looks. `checkpoint`: where Spark keeps what it has found; by default in the lake's
    home, under the dataset's name and a hash of the source. `report` is called with each batch's report.
    """

    spark: SparkSession
    settings: Settings
    spec: DatasetSpec
    source: Sequence[str] | TableRange
    report: Callable[[IngestReport], None]
    progress: Progress | None = None
    every: float = 10.0
    checkpoint: Path | None = None
    _failed: Exception | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        named = self.source.table if isinstance(self.source, TableRange) else "\n".join(map(str, self.source))
        mark = hashlib.sha256(named.encode()).hexdigest()[:12]
        self.folder = self.checkpoint or self.settings.home / "streams" / f"{self.spec.name}-{mark}"
        self._busy, self._stopping = threading.Lock(), threading.Event()
        self._ended = threading.Event()  # not the thread's end: one whose join is interrupted counts as ended

    def run(self, *, once: bool = False) -> None:
        """Stream until Ctrl-C (KeyboardInterrupt is raised when the running batch is done), or `once`: what is there.

        Raises RawDataError for a source that cannot be streamed, and what `spark_jobs.ingest.run` raises.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        # Ctrl-C in the middle of a call to the JVM spoils the thread's connection, so the main thread makes none.
        threading.Thread(target=self._watch, args=(self._start(once),), daemon=True).start()
        try:
            self._ended.wait()
        except KeyboardInterrupt:
            self._stopping.set()
            if self.progress is not None:
                self.progress("Stopping when the batch that is running is done; Ctrl-C again leaves at once")
            self._ended.wait()
            if self._failed is not None:
                raise self._failed from None
            raise
        if self._failed is not None:
            raise self._failed

    def _watch(self, query: StreamingQuery) -> None:
        """Wait for the stream's end; meanwhile look again at what was not whole."""
        try:
            while not (query.awaitTermination(TICK) or self._stopping.is_set()):
                self._again()
            if not self._stopping.is_set():
                self._again()
        except Exception as error:  # noqa: BLE001 - it is raised in the main thread
            self._failed = self._failed or error
        finally:
            self._stopping.set()
            try:
                with self._busy:
                    query.stop()
            finally:
                self._ended.set()

    def _start(self, once: bool) -> StreamingQuery:
        trigger: dict[str, Any] = {"availableNow": True} if once else {"processingTime": f"{self.every} seconds"}
        writer = self._found().writeStream.foreachBatch(self._batch).trigger(**trigger)
        return writer.option("checkpointLocation", f"file://{self.folder.resolve()}").start()

    def _found(self) -> DataFrame:
        """A frame whose rows are the source's files; of a table its rows, which nobody reads."""
        if isinstance(self.source, TableRange):
            reader = self.spark.readStream
            # The batch job looks at what each snapshot did, and says so by name.
            for kind in ("delete", "overwrite"):
                reader = reader.option(f"streaming-skip-{kind}-snapshots", "true")
            return reader.table(f"{self.settings.catalog.in_spark}.{self.source.table}")
        if len(self.source) != 1 or (
            not glob.has_magic(self.source[0]) and not is_folder(self.source[0], self.settings.s3)
        ):
            raise RawDataError(
                f"a stream is given one folder, one quoted pattern or a table, not {', '.join(self.source)}"
            )
        reader = self.spark.readStream.format("binaryFile").schema(FOUND).option("recursiveFileLookup", "true")
        return reader.load(for_hadoop(self.spark, self._place()[0], "a stream's files")).select("path")

    def _place(self) -> tuple[str, tuple[str, ...]]:
        """The folder that Spark looks into, and the pattern of the files below it, which Hadoop's would misread."""
        source = str(self.source[0]) if not isinstance(self.source, TableRange) else ""
        if source.split("://")[0] in S3:
            fixed, pattern = fixed_part(source.split("://", 1)[1])
            return f"s3://{fixed}", pattern
        name = unquote(source.removeprefix("file://")) if source.startswith("file://") else source
        return fixed_part(str(Path(name).absolute()))

    def _batch(self, found: DataFrame, _: int) -> None:
        """What Spark calls on what it has found; an error stops the stream, and the same is found again next time."""
        while not self._busy.acquire(timeout=TICK / 10):
            if self._stopping.is_set():  # which waits for Spark's thread, which waits here
                raise InterruptedError("the stream is being stopped: this batch is found again")
        try:
            if isinstance(self.source, TableRange):
                self._ingest(self.source)
            else:
                self._take([_as_ours(row["path"]) for row in found.collect()])
        except Exception as error:  # Spark would tell its text alone
            self._failed = error
            raise
        finally:
            self._busy.release()

    def _again(self) -> None:
        """Look again at files that were not whole."""
        if not isinstance(self.source, TableRange) and self._waiting() and self._busy.acquire(blocking=False):
            try:
                self._take([])
            finally:
                self._busy.release()

    def _take(self, found: Sequence[str]) -> None:
        """Ingest what is whole of the found files and of those that wait; remember what is not."""
        place = self._place()
        paths = sorted({*(path for path in found if belongs(path, *place)), *self._waiting()})
        there = [path for path in paths if on_s3(path) or Path(path).exists()]  # what was removed has no rows
        whole, waiting = sort_out(there, self.settings.s3)
        if whole:
            self._ingest(whole)
        draft = self.folder / f"{WAITING}.{os.getpid()}"
        draft.write_text(json.dumps(waiting))
        draft.replace(self.folder / WAITING)

    def _ingest(self, raw: Sequence[str] | TableRange) -> None:
        self.report(ingest.run(self.spark, self.settings, self.spec, raw, progress=self.progress))

    def _waiting(self) -> list[str]:
        file = self.folder / WAITING
        return list(json.loads(file.read_text())) if file.exists() else []


def _as_ours(path: str) -> str:
    """A path as Spark spells it: a URI, encoded where it is local."""
    url = urlparse(path)
    return unquote(url.path) if url.scheme in ("", "file") else f"s3://{url.netloc}{unquote(url.path)}"
