"""A batch audited: the suite, the comparison with the last batches, and what is kept of both."""

from __future__ import annotations

from typing import Any

from pyiceberg.catalog import Catalog

from lakehouse.quality.page import write_quality_page
from lakehouse.quality.results import by_batch, keep_results, read_results
from lakehouse.quality.suite import ValidationReport
from lakehouse.quality.volume import hold_against, observe, warnings_of
from lakehouse.settings import Settings
from lakehouse.spec import DatasetSpec


def keep_audit(
    catalog: Catalog,
    spec: DatasetSpec,
    settings: Settings,
    report: ValidationReport,
    *,
    frame: Any,
    about: tuple[str, int],
) -> tuple[str, ...]:
    """Keep the results of a batch's audit, held against the last batches where asked; what is odd, in words.

    `frame` holds the batch's request rows, `about` are its id and its snapshot. Raises AuditError, after all is kept,
    where the suite failed, or where the settings refuse a batch that is unlike the last ones.
    """
    wanted, (batch_id, snapshot_id) = settings.quality, about
    observations = []
    if wanted.volume_batches:
        before = by_batch(read_results(catalog, spec, settings, scope="batch"))
        # What was refused is no measure for what comes.
        refused = wanted.volume == "refuse"
        told = [b.numbers for b in before if b.batch_id != batch_id and not b.failed and not (refused and b.odd)]
        observations = hold_against(observe(frame, spec), told[-wanted.volume_batches :], wanted)
    if wanted.keep_results or observations:
        keep_results(
            catalog, spec, settings, report, batch_id=batch_id, snapshot_id=snapshot_id, observations=observations
        )
    if wanted.page is not None:
        write_quality_page(wanted.page / f"{spec.name}.html", spec, report, read_results(catalog, spec, settings))
    report.require()
    return warnings_of(observations, wanted)
