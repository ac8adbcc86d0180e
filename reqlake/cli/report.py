"""`reqlake report`."""

from __future__ import annotations

from pathlib import Path

from tyro.conf import Positional

from reqlake.cli.terminal import err, out


def report(
    dataset: Positional[str],
    raw: Positional[tuple[str, ...]],
    /,
    *,
    html: Path | None = None,
    json: Path | None = None,
    sample_mb: int = 32,
    price_per_gb_month: float | None = None,
    price_per_vcpu_hour: float | None = None,
    reads_per_year: float | None = None,
) -> None:
    """What storing each request once is worth, how healthy the table is, and whether another layout would be better.

    Args:
        dataset: A spec file, a table's full name or a dataset's name.
        raw: The raw log that the table was made from: Parquet files, folders, quoted patterns.
        html: Write the report as a page with charts as well.
        json: Write every figure as JSON as well.
        sample_mb: MB (decoded) of the table that are rewritten with other layouts, in memory; 0 leaves that out.
        price_per_gb_month: Price of storing a GB for a month, for the yearly cost; else what the settings say.
        price_per_vcpu_hour: Price of a vCPU for an hour; else what the settings say.
        reads_per_year: Times a year that all of it is read; else what the settings say, 365.
    """
    import json as text

    from lakehouse.pages import write_page
    from lakehouse.report import dedup_report, print_report, write_html
    from lakehouse.settings import load_settings
    from reqlake.cli.dataset import spec_of
    from reqlake.show.ingest import live_steps

    given = {"per_gb_month": price_per_gb_month, "per_vcpu_hour": price_per_vcpu_hour, "reads_per_year": reads_per_year}
    settings = load_settings()
    prices = settings.prices.model_copy(update={name: value for name, value in given.items() if value is not None})
    settings = settings.model_copy(update={"prices": prices})
    spec = spec_of(dataset, settings)
    with live_steps(err()) as step:
        found = dedup_report(settings, spec, list(raw), sample_bytes=sample_mb << 20, progress=step)
    print_report(found, out())
    if html is not None:
        err().print(f"wrote {write_html(found, html)}", soft_wrap=True)
    if json is not None:
        err().print(f"wrote {write_page(text.dumps(found.to_json(), indent=1), json)}", soft_wrap=True)
