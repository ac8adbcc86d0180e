"""Batch scoring: a pinned snapshot through the reader and the engine into `<dataset>_scores`, an Iceberg table.

One commit holds all scores of one job and the note that it was done (a table property), so that a job that is killed
leaves nothing and one that is run twice writes nothing. A job is (snapshot, model version, filter). Rows are streamed:
memory holds one data file's worth. No Spark.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException, NoSuchTableError
from pyiceberg.table import Table

from feature_reader import Reader, RequestBatch
from lakehouse.catalog import catalog_errors, ensure_namespace, open_catalog
from lakehouse.schema import open_request_table
from lakehouse.settings import Settings
from lakehouse.tags import reading
from serving.engine import Budget, Engine, Scores
from serving.errors import ServingError
from training.loop import EXPORT
from training.run import RUN, open_run

DONE = "reqlake.scored."
FORMAT, FORMAT_VERSION = "reqlake.scores-format", "1"
ATTEMPTS = 5
KEYS = ("user_id", "request_id", "request_hash", "request_ts", "item_id", "position")

Progress = Callable[[int, int], None]
"""Is told of requests done, and of all."""


@dataclass(frozen=True)
class ScoreReport:
    """What a scoring job came to. `skipped` if the table held these very scores already: nothing was written."""

    table: str
    job: str
    model_version: str
    source: str
    snapshot_id: int
    row_filter: str
    requests: int
    rows: int
    skipped: bool
    seconds: float


def score(
    model: Path,
    settings: Settings,
    *,
    table: str | None = None,
    snapshot_id: int | None = None,
    row_filter: str | None = None,
    batch_requests: int = 256,
    device: str = "cpu",
    budget: Budget | None = None,
    progress: Progress | None = None,
) -> ScoreReport:
    """Score requests with a run's export, or with an export's folder.

    A run scores its own test requests on the snapshot that it was trained on, unless told otherwise; an export scores
    all requests of its table's current snapshot. Raises ServingError, CheckpointError, and the reader's errors.
    """
    began = time.perf_counter()
    export = model
    if (model / RUN).exists():
        run = open_run(model)
        if not (model / EXPORT).exists():
            raise ServingError(f"{model} has no export yet: finish it with `reqlake train --resume {model}`")
        export, table = model / EXPORT, table or run.config.table
        if snapshot_id is None and table == run.config.table:
            snapshot_id = run.snapshot_id
            row_filter = run.split.test if row_filter is None else row_filter
    engine = Engine.load(export, device=device, budget=budget)
    source = table or engine.spec.table("requests")
    catalog = open_catalog(settings)
    requests = open_request_table(catalog, source, settings)
    current = requests.current_snapshot()
    if snapshot_id is None:
        if current is None:
            raise ServingError(f"{source} is empty: ingest a raw log first (`reqlake ingest`)")
        snapshot_id = current.snapshot_id
    reader = Reader(
        requests,
        columns=(*KEYS, *engine.columns),
        batch_requests=batch_requests,
        shuffle=False,
        row_filter=row_filter,
        snapshot_id=snapshot_id,
    )
    job = Job(source, snapshot_id, engine.version, row_filter or "")
    target = ensure_scores_table(catalog, engine, settings)
    with reading(requests, "score", settings, snapshot_id=snapshot_id):
        for _ in range(ATTEMPTS):
            done = target.properties.get(DONE + job.id)
            if done is not None:
                return ScoreReport(**json.loads(done) | {"skipped": True, "seconds": time.perf_counter() - began})
            rows = ScoredRows(reader, engine, progress)
            try:
                with catalog_errors(settings):
                    return _commit(target, job, rows, began)
            except CommitFailedException:  # another writer was first; it may even have done this job
                target = target.refresh()
                reader.epoch = 0
    raise ServingError(f"{'.'.join(target.name())}: {ATTEMPTS} commits lost against other writers; run it again")


@dataclass(frozen=True)
class Job:
    """What is scored, and with what."""

    source: str
    snapshot_id: int
    version: str
    row_filter: str

    @property
    def id(self) -> str:
        """16 hex digits of the whole."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:16]


def _commit(target: Table, job: Job, rows: ScoredRows, began: float) -> ScoreReport:
    """Score all and commit scores and note at once. Raises CommitFailedException if another writer was first."""
    stream = pa.RecordBatchReader.from_batches(rows.schema, rows)
    with target.transaction() as change:
        change.append(stream, {"reqlake.job": job.id, "reqlake.model-version": job.version})
        report = ScoreReport(
            table=".".join(target.name()),
            job=job.id,
            model_version=job.version,
            source=job.source,
            snapshot_id=job.snapshot_id,
            row_filter=job.row_filter,
            requests=rows.requests,
            rows=rows.rows,
            skipped=False,
            seconds=time.perf_counter() - began,
        )
        change.set_properties({DONE + job.id: json.dumps(asdict(report))})
    return report


def scores_schema(engine: Engine) -> pa.Schema:
    """One row a candidate; scores by task."""
    return pa.schema(
        [
            pa.field("user_id", pa.int64(), nullable=False),
            pa.field("request_id", pa.int64(), nullable=False),
            pa.field("request_hash", pa.int64(), nullable=False),
            pa.field("request_ts", pa.timestamp("us", tz="UTC"), nullable=False),
            pa.field("position", pa.int32(), nullable=False),
            pa.field("item_id", pa.int64(), nullable=False),
            *(pa.field(f"score_{task}", pa.float32()) for task in engine.tasks),
            pa.field("model_version", pa.string(), nullable=False),
        ]
    )


def ensure_scores_table(catalog: Catalog, engine: Engine, settings: Settings) -> Table:
    """The dataset's scores table with a column for each task of this model."""
    ensure_namespace(catalog, engine.spec.namespace, settings)
    name, schema = engine.spec.table("scores"), scores_schema(engine)
    with catalog_errors(settings):
        try:
            table = catalog.load_table(name)
        except NoSuchTableError:
            # PyIceberg would retry a lost commit by itself and append twice what another process has scored meanwhile.
            properties = {
                FORMAT: FORMAT_VERSION,
                "commit.retry.num-retries": "0",
                "write.parquet.compression-codec": "zstd",
            }
            return catalog.create_table_if_not_exists(name, schema, properties=properties)
        missing = [field for field in schema if field.name not in table.schema().column_names]
        if missing:
            with table.update_schema() as update:
                update.union_by_name(schema)
        return table.refresh()


class ScoredRows:
    """The reader's batches scored, as Arrow rows, once; counts them and tells of them."""

    def __init__(self, reader: Reader, engine: Engine, progress: Progress | None) -> None:
        self.reader, self.engine, self.progress = reader, engine, progress
        self.schema = scores_schema(engine)
        self.requests = self.rows = 0

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        for batch in self.reader:
            rows = score_rows(batch, self.engine.score(batch), self.engine.version, self.schema)
            self.requests, self.rows = self.requests + batch.R, self.rows + rows.num_rows
            if self.progress:
                self.progress(self.requests, self.reader.plan.requests)
            yield rows


def score_rows(batch: RequestBatch, scores: Scores, version: str, schema: pa.Schema) -> pa.RecordBatch:
    """One row a candidate, in the batch's order."""
    index = batch.request_index
    columns = [
        np.asarray(batch.request[name])[index] for name in ("user_id", "request_id", "request_hash", "request_ts")
    ]
    columns += [np.asarray(batch.candidates[name]) for name in ("position", "item_id")]
    columns += list(scores.values())
    arrays = [pa.array(values).cast(field.type) for values, field in zip(columns, schema, strict=False)]
    return pa.record_batch([*arrays, pa.array([version] * batch.C, pa.string())], schema=schema)
