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


def trace(
    dataset: Positional[str],
    step: Positional[int],
    /,
    *,
    epoch: int = 0,
    batch_requests: int = 64,
    seed: int = 0,
    where: str | None = None,
    snapshot: int | None = None,
    tag: str | None = None,
) -> None:
    """The file, row group and row of each request of one step, from the plan alone.

    Args:
        dataset: A spec file, a table's full name or a dataset's name.
        step: The step, counted from 0.
        epoch: The epoch, counted from 0.
        batch_requests: Requests of a batch, as in the run that is traced.
        seed: The run's seed.
        where: The run's row filter.
        snapshot: A snapshot id instead of the current one.
        tag: A tag instead of the current snapshot.
    """
    from feature_reader import Reader
    from feature_reader import trace as origins
    from lakehouse.settings import load_settings
    from reqlake.cli.dataset import open_table
    from reqlake.show.batches import show_origin

    table = open_table(dataset, load_settings())
    reader = Reader(table, batch_requests=batch_requests, seed=seed, row_filter=where, snapshot_id=snapshot, tag=tag)
    show_origin(out(), origins(reader, step, epoch))


def bench(dataset: Positional[str], /, *, seconds: float = 2.0, batch_requests: int = 64) -> None:
    """Read under several numbers of threads and windows: the fastest for this machine, and what bounds each.

    Args:
        dataset: A spec file, a table's full name or a dataset's name.
        seconds: How long to read under each.
        batch_requests: Requests of a batch.
    """
    from feature_reader import bench as measure
    from lakehouse.settings import load_settings
    from lakehouse.tags import reading
    from reqlake.cli.dataset import open_table
    from reqlake.show.batches import show_bench

    settings = load_settings()
    table = open_table(dataset, settings)
    with reading(table, "bench", settings) as snapshot, working("reading"):
        report = measure(table, seconds=seconds, batch_requests=batch_requests, snapshot_id=snapshot)
    show_bench(out(), report)
