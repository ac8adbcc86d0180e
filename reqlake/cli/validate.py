"""`reqlake validate`."""

from __future__ import annotations

from pathlib import Path

from tyro.conf import Positional

from reqlake.cli.terminal import err, out


def validate(dataset: Positional[str], /, *, history: bool = False, days: int = 90, page: Path | None = None) -> int:
    """Run the expectation suite on a published request table; exit code 1 if an expectation fails.

    Args:
        dataset: A spec file, a table's full name or a dataset's name.
        history: Show what the suite found in each batch instead, newest last, and how its numbers moved.
        days: How far back the history goes.
        page: Also write what was found as an HTML page, without any value or key of a row.
    """
    from lakehouse import quality
    from lakehouse.catalog import open_catalog
    from lakehouse.quality.results import read_results
    from lakehouse.settings import load_settings
    from reqlake.cli.dataset import spec_of
    from reqlake.show.ingest import live_steps
    from reqlake.show.quality import show_history, show_validation

    settings = load_settings()
    spec = spec_of(dataset, settings)
    if history:
        show_history(out(), read_results(open_catalog(settings), spec, settings, days=days))
        return 0
    from lakehouse.quality.page import write_quality_page
    from spark_jobs.session import build_session

    with live_steps(err()) as step:
        step("Starting Spark")
        session = build_session(settings)
        step("Validating")
        found = quality.validate(session, settings, spec)
    show_validation(out(), found)
    if page is not None:
        results = read_results(open_catalog(settings), spec, settings, days=days)
        err().print(f"wrote {write_quality_page(page, spec, found, results)}", soft_wrap=True)
    return 0 if found.passed else 1
