"""`reqlake report`."""

from __future__ import annotations

from pathlib import Path

from tyro.conf import Positional

from reqlake.cli.terminal import err, out


def report(dataset: Positional[str], raw: Positional[tuple[str, ...]], /, *, html: Path | None = None) -> None:
    """What storing each request once is worth, against the raw log as it lies, in time order, and sorted.

    Args:
        dataset: A spec file, a table's full name or a dataset's name.
        raw: The raw log that the table was made from: Parquet files, folders, quoted patterns.
        html: Write the report as a page with charts as well.
    """
    from lakehouse.report import dedup_report, print_report, write_html
    from lakehouse.settings import load_settings
    from reqlake.cli.dataset import spec_of
    from reqlake.show.ingest import live_steps

    settings = load_settings()
    spec = spec_of(dataset, settings)
    with live_steps(err()) as step:
        found = dedup_report(settings, spec, list(raw), progress=step)
    print_report(found, out())
    if html is not None:
        err().print(f"wrote {write_html(found, html)}", soft_wrap=True)
