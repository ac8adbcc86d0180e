"""`reqlake batches`: what the reader would read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tyro.conf import Positional

from reqlake.cli.terminal import out, working

if TYPE_CHECKING:
    from feature_reader import Reader


def plan(
    dataset: Positional[str],
    /,
    *,
    where: str | None = None,
    skip_requests: Path | None = None,
    snapshot: int | None = None,
    tag: str | None = None,
) -> None:
    """The reader's plan: files, row groups, requests, candidates and decoded bytes of an epoch.

    Args:
        dataset: A spec file, a table's full name or a dataset's name.
        where: A row filter, such as "request_ts < '2026-01-01T00:00:00+00:00'".
        skip_requests: Keys of requests to leave out: a Parquet file, or CSV with a header of request_id and user_id.
        snapshot: A snapshot id instead of the current one.
        tag: A tag instead of the current snapshot.
    """
    from reqlake.show.batches import show_plan

    with working("planning"):
        reader = _reader(dataset, where, snapshot, skip_requests=skip_requests, tag=tag)
        reader.plan  # noqa: B018 (made on first use)
    show_plan(out(), reader)


def preview(
    dataset: Positional[str],
    /,
    *,
    requests: int = 3,
    columns: tuple[str, ...] = (),
    where: str | None = None,
    skip_requests: Path | None = None,
    snapshot: int | None = None,
    tag: str | None = None,
) -> None:
    """The first batch as a training loop gets it: each request once, its candidates below it.

    Args:
        dataset: A spec file, a table's full name or a dataset's name.
        requests: How many requests to show.
        columns: Columns to read; else every column that a model wants.
        where: A row filter, such as "request_ts < '2026-01-01T00:00:00+00:00'".
        skip_requests: Keys of requests to leave out: a Parquet file, or CSV with a header of request_id and user_id.
        snapshot: A snapshot id instead of the current one.
        tag: A tag instead of the current snapshot.
    """
    from reqlake.show.batches import show_batch

    reader = _reader(
        dataset,
        where,
        snapshot,
        columns=columns or None,
        batch_requests=requests,
        skip_requests=skip_requests,
        tag=tag,
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
    skip_requests: Path | None = None,
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
        skip_requests: The run's file of requests to leave out.
        snapshot: A snapshot id instead of the current one.
        tag: A tag instead of the current snapshot.
    """
    from feature_reader import trace as origins
    from reqlake.show.batches import show_origin

    reader = _reader(
        dataset, where, snapshot, batch_requests=batch_requests, seed=seed, skip_requests=skip_requests, tag=tag
    )
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


def dump(
    dataset: Positional[str],
    step: Positional[int],
    file: Positional[Path],
    /,
    *,
    epoch: int = 0,
    batch_requests: int = 64,
    seed: int = 0,
    where: str | None = None,
    skip_requests: Path | None = None,
    min_users_per_batch: int = 0,
    snapshot: int | None = None,
    tag: str | None = None,
) -> None:
    """Save one step's batch with its trace (snapshot, files, row groups, rows, state) in an Arrow file.

    Args:
        dataset: A spec file, a table's full name or a dataset's name.
        step: The step, counted from 0.
        file: Where to save it.
        epoch: The epoch, counted from 0.
        batch_requests: Requests of a batch, as in the run.
        seed: The run's seed.
        where: The run's row filter.
        skip_requests: The run's file of requests to leave out.
        min_users_per_batch: The run's least number of users of a batch.
        snapshot: A snapshot id instead of the current one.
        tag: A tag instead of the current snapshot.
    """
    from feature_reader import dump as save

    reader = _reader(
        dataset,
        where,
        snapshot,
        batch_requests=batch_requests,
        seed=seed,
        skip_requests=skip_requests,
        min_users_per_batch=min_users_per_batch,
        tag=tag,
    )
    batch = save(reader, step, file, epoch).batch
    out().print(f"{file}: step {step} of epoch {epoch}, {batch.R} requests, {batch.C} candidates", soft_wrap=True)


def replay(file: Positional[Path], /) -> int:
    """Read a dumped batch anew from its table: bit by bit the same, or what differs (exit code 1).

    Args:
        file: What `batches dump` saved.
    """
    from feature_reader import load_dump
    from feature_reader import replay as read_anew
    from lakehouse.settings import load_settings
    from reqlake.cli.dataset import open_table

    saved = load_dump(file)
    name = saved.trace["table"]
    found = read_anew(saved, open_table(name, load_settings()))
    if found.is_same:
        out().print(f"step {saved.trace['step']} of {name} is bit by bit what {file} holds", soft_wrap=True)
        return 0
    for line in found.differences:
        out().print(line, markup=False, soft_wrap=True)
    return 1


def _reader(dataset: str, where: str | None, snapshot: int | None, **options: Any) -> Reader:
    """The reader of the table that the words name."""
    from feature_reader import Reader
    from lakehouse.settings import load_settings
    from reqlake.cli.dataset import open_table

    return Reader(open_table(dataset, load_settings()), row_filter=where, snapshot_id=snapshot, **options)
