"""What the suite found, kept for good: `<dataset>_suite_results`, a row an expectation of a batch, each once.

A batch's rows take the place of those that an earlier try of it has left, in one commit, before it is published.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.expressions import And
from pyiceberg.schema import Schema
from pyiceberg.types import BooleanType, DoubleType, LongType, NestedField, StringType, TimestamptzType

from lakehouse.catalog import catalog_errors, ensure_namespace, ensure_table, load_table, table_names
from lakehouse.errors import CatalogError
from lakehouse.predicates import at_least, equal_to
from lakehouse.quality.suite import ValidationReport
from lakehouse.quality.volume import Observation, is_observation
from lakehouse.settings import Settings
from lakehouse.spec import DatasetSpec

TRIES = 8
DAYS = 90
SCHEMA = Schema(
    NestedField(1, "batch_id", StringType(), required=True, doc="the batch, or table@<snapshot> of a validation"),
    NestedField(2, "scope", StringType(), required=True, doc="batch: rows of one ingest; table: all of them"),
    NestedField(3, "expectation", StringType(), required=True, doc="its name; volume.… and nulls.… are observations"),
    NestedField(4, "says", StringType(), doc="what it says"),
    NestedField(5, "success", BooleanType(), required=True, doc="whether it held"),
    NestedField(6, "observed", DoubleType(), doc="requests that break it; of an observation, what was observed"),
    NestedField(7, "expected", DoubleType(), doc="of an observation: the median of the last batches"),
    NestedField(8, "rows", LongType(), doc="requests that were looked at"),
    NestedField(9, "snapshot_id", LongType(), doc="the snapshot that they lie in"),
    NestedField(10, "at", TimestamptzType(), required=True, doc="when"),
)
PROPERTIES = {
    "format-version": "2",
    "reqlake.suite-results": "1",
    # PyIceberg would retry a lost commit by itself, and append what the other job has appended.
    "commit.retry.num-retries": "0",
    # A batch is a small file: its manifest joins the others.
    "commit.manifest-merge.enabled": "true",
    "commit.manifest.min-count-to-merge": "20",
}


@dataclass(frozen=True)
class Result:
    """One expectation of one batch, as the table has it."""

    batch_id: str
    scope: str
    expectation: str
    says: str
    success: bool
    observed: float | None
    expected: float | None
    rows: int
    snapshot_id: int | None
    at: datetime


def keep_results(
    catalog: Catalog,
    spec: DatasetSpec,
    settings: Settings,
    report: ValidationReport,
    *,
    batch_id: str,
    snapshot_id: int | None,
    scope: str = "batch",
    observations: Iterable[Observation] = (),
) -> None:
    """Write a validation's results. Raises CatalogError where other jobs write each time this one is about to."""
    now = datetime.fromtimestamp(time.time(), UTC)
    kept = [
        Result(batch_id, scope, r.rule, r.says, r.passed, float(r.broken), None, report.rows, snapshot_id, now)
        for r in report.results
    ]
    kept += [
        Result(batch_id, scope, o.name, o.says, o.passed, o.observed, o.expected, report.rows, snapshot_id, now)
        for o in observations
    ]
    ensure_namespace(catalog, spec.namespace, settings)
    table = ensure_table(catalog, spec.table("suite_results"), SCHEMA, settings, properties=PROPERTIES)
    rows = pa.Table.from_pylist([asdict(r) for r in kept], schema=table.schema().as_arrow())
    mine = equal_to("batch_id", batch_id)
    with catalog_errors(settings):
        for _ in range(TRIES):
            try:
                if next(iter(table.scan(row_filter=mine).plan_files()), None) is None:
                    table.append(rows)
                else:
                    table.overwrite(rows, overwrite_filter=mine)
            except CommitFailedException:
                table.refresh()
                continue
            return
    raise CatalogError(f"{spec.table('suite_results')}: other jobs wrote to it {TRIES} times in a row: run this again")


def read_results(
    catalog: Catalog, spec: DatasetSpec, settings: Settings, *, scope: str | None = None, days: int = DAYS
) -> list[Result]:
    """Results of the last days, oldest first; none where there is no table."""
    name = spec.table("suite_results")
    if name not in table_names(catalog, spec.namespace):
        return []
    since = datetime.now(UTC) - timedelta(days=days)
    wanted = at_least("at", since.isoformat())
    table = load_table(catalog, name, settings)
    found = table.scan(row_filter=wanted if scope is None else And(wanted, equal_to("scope", scope))).to_arrow()
    return [Result(**row) for row in found.sort_by("at").to_pylist()]


@dataclass(frozen=True)
class BatchResults:
    """The results of one batch, or of one validation of the whole table."""

    batch_id: str
    scope: str
    at: datetime
    rows: int
    failed: tuple[Result, ...]
    """Expectations of the suite that did not hold."""
    odd: tuple[Result, ...]
    """Observations that are unlike those of the batches before."""
    numbers: dict[str, float]
    """Observations by name."""


def by_batch(results: Sequence[Result]) -> list[BatchResults]:
    """Results by batch, oldest first."""
    found: dict[str, list[Result]] = {}
    for result in results:
        found.setdefault(result.batch_id, []).append(result)
    return [
        BatchResults(
            batch,
            mine[0].scope,
            mine[0].at,
            mine[0].rows,
            tuple(r for r in mine if not r.success and not is_observation(r.expectation)),
            tuple(r for r in mine if not r.success and is_observation(r.expectation)),
            {r.expectation: r.observed or 0.0 for r in mine if is_observation(r.expectation)},
        )
        for batch, mine in found.items()
    ]
