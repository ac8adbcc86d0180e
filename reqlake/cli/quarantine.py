"""`reqlake quarantine`: raw rows that are not in the request table."""

from __future__ import annotations

from tyro.conf import Positional

from reqlake.cli.terminal import out


def list_held(dataset: Positional[str], /) -> None:
    """Count the held rows by batch, reason and column.

    Args:
        dataset: A spec file, a table's full name or a dataset's name.
    """
    from lakehouse.quarantine import held_groups
    from reqlake.cli.dataset import opened
    from reqlake.show.quarantine import show_groups

    catalog, spec, settings = opened(dataset)
    show_groups(out(), held_groups(catalog, spec, settings))


def show(
    dataset: Positional[str], /, *, reason: str | None = None, batch_id: str | None = None, limit: int = 20
) -> None:
    """Show held rows as the raw log had them; sensitive values are masked.

    Args:
        dataset: A spec file, a table's full name or a dataset's name.
        reason: Only rows held for this reason.
        batch_id: Only rows of this batch.
        limit: How many rows at most.
    """
    from lakehouse.quarantine import held_rows
    from reqlake.cli.dataset import opened
    from reqlake.show.quarantine import show_rows

    catalog, spec, settings = opened(dataset)
    rows = held_rows(catalog, spec, settings, reason=reason, batch_id=batch_id, limit=limit)
    if not rows:
        out().print("nothing is held", style="dim")
    show_rows(out(), rows)
