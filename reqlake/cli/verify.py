"""`reqlake verify`."""

from __future__ import annotations

from tyro.conf import Positional

from reqlake.cli.terminal import err, out


def data(dataset: Positional[str], raw: Positional[tuple[str, ...]] = (), /, *, table: str | None = None) -> int:
    """Prove that expand(table) + quarantine + counted duplicates are the raw rows; exit code 1 if they are not.

    Args:
        dataset: A spec file, a table's full name or a dataset's name.
        raw: All of the raw log that the table was made from: files of one format, folders, quoted patterns.
        table: The Iceberg table that it was made from instead, as NAMESPACE.NAME.
    """
    from lakehouse.settings import load_settings
    from reqlake.cli.dataset import spec_of
    from reqlake.cli.ingest import source_of
    from reqlake.show.ingest import live_steps
    from reqlake.show.verify import show_verification
    from spark_jobs import verify
    from spark_jobs.session import build_session

    source = source_of(raw, table)
    settings = load_settings()
    spec = spec_of(dataset, settings)
    with live_steps(err()) as step:
        step("Starting Spark")
        session = build_session(settings)
        step("Comparing the table with the raw log")
        report = verify.run(session, settings, spec, source)
    show_verification(out(), report)
    return 0 if report.ok else 1
