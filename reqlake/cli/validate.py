"""`reqlake validate`."""

from __future__ import annotations

from tyro.conf import Positional

from reqlake.cli.terminal import err, out


def validate(dataset: Positional[str], /) -> int:
    """Run the expectation suite on a published request table; exit code 1 if an expectation fails.

    Args:
        dataset: A spec file, a table's full name or a dataset's name.
    """
    from lakehouse import quality
    from lakehouse.settings import load_settings
    from reqlake.cli.dataset import spec_of
    from reqlake.show.ingest import live_steps
    from reqlake.show.quality import show_validation
    from spark_jobs.session import build_session

    settings = load_settings()
    spec = spec_of(dataset, settings)
    with live_steps(err()) as step:
        step("Starting Spark")
        session = build_session(settings)
        step("Validating")
        found = quality.validate(session, settings, spec)
    show_validation(out(), found)
    return 0 if found.passed else 1
