"""`reqlake estimate`."""

from __future__ import annotations

from pathlib import Path

from tyro.conf import Positional

from reqlake.cli.terminal import err, out, working


def estimate(
    log: Positional[str],
    /,
    *,
    spec: Path | None = None,
    rows: int = 200_000,
    price: float | None = None,
    json: bool = False,
) -> None:
    """What a request table of a log would be worth: factors on disk and decoded, with intervals; writes nothing.

    Args:
        log: Parquet files (a file, a folder, a quoted pattern), or the full name of an Iceberg table of impressions.
        spec: The dataset's spec; else one is drafted from the log, and what it says is used.
        rows: Rows that the sample of whole users aims at.
        price: Price of a GB and month of storage, for the yearly cost; else what the settings say.
        json: Print JSON instead of tables.
    """
    from lakehouse.catalog import load_table, open_catalog
    from lakehouse.estimate import estimate as run
    from lakehouse.estimate import sources_of
    from lakehouse.settings import load_settings
    from lakehouse.spec import load_spec
    from lakehouse.spec.infer import infer_spec
    from reqlake.cli.dataset import is_catalog_name
    from reqlake.show.estimate import show_estimate

    settings = load_settings()
    named = is_catalog_name(log)
    with working("sampling"):
        sources = sources_of(load_table(open_catalog(settings), log, settings) if named else log)
        if spec is not None:
            dataset = load_spec(spec)
        else:
            if named:
                from lakehouse.errors import SpecError

                raise SpecError(f"--spec: say what the columns of {log} are, a spec is drafted from files alone")
            dataset = infer_spec(log).spec
        price = settings.prices.per_gb_month if price is None else price
        found = run(dataset, sources, log, sample_rows=rows, price_gb_month=price)
    if json:
        out().print_json(data=found.to_json())
    else:
        show_estimate(out(), found)
        if spec is None:
            err().print("the spec was drafted from the log: `reqlake spec infer` shows it", style="dim")
