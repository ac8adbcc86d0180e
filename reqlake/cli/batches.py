"""`reqlake batches`: what the reader would read."""

from __future__ import annotations

from tyro.conf import Positional

from reqlake.cli.terminal import out, working


def plan(
    dataset: Positional[str], /, *, where: str | None = None, snapshot: int | None = None, tag: str | None = None
) -> None:
    """The reader's plan: files, row groups, requests, candidates and decoded bytes of an epoch.

    Args:
        dataset: A spec file, a table's full name or a dataset's name.
        where: A row filter, such as "request_ts < '2026-01-01T00:00:00+00:00'".
        snapshot: A snapshot id instead of the current one.
        tag: A tag instead of the current snapshot.
    """
    from feature_reader import Reader
    from lakehouse.settings import load_settings
    from reqlake.cli.dataset import open_table
    from reqlake.show.batches import show_plan

    table = open_table(dataset, load_settings())
    with working("planning"):
        reader = Reader(table, row_filter=where, snapshot_id=snapshot, tag=tag)
        reader.plan  # noqa: B018 (made on first use)
    show_plan(out(), reader)


def preview(
    dataset: Positional[str],
    /,
    *,
    requests: int = 3,
    columns: tuple[str, ...] = (),
    where: str | None = None,
    snapshot: int | None = None,
    tag: str | None = None,
) -> None:
    """The first batch as a training loop gets it: each request once, its candidates below it.

    Args:
        dataset: A spec file, a table's full name or a dataset's name.
        requests: How many requests to show.
        columns: Columns to read; else every column that a model wants.
        where: A row filter, such as "request_ts < '2026-01-01T00:00:00+00:00'".
        snapshot: A snapshot id instead of the current one.
        tag: A tag instead of the current snapshot.
    """
    from feature_reader import Reader
    from lakehouse.settings import load_settings
    from reqlake.cli.dataset import open_table
    from reqlake.show.batches import show_batch

    table = open_table(dataset, load_settings())
    reader = Reader(
        table, columns=columns or None, batch_requests=requests, row_filter=where, snapshot_id=snapshot, tag=tag
    )
    show_batch(out(), reader.spec, next(iter(reader), None))
