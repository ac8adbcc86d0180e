"""`reqlake score`."""

from __future__ import annotations

from pathlib import Path

from tyro.conf import Positional

from reqlake.cli.terminal import err, out


def score(
    model: Positional[Path],
    /,
    *,
    table: str | None = None,
    snapshot: int | None = None,
    tag: str | None = None,
    where: str | None = None,
    device: str = "cpu",
) -> None:
    """Score requests with a trained model into the dataset's scores table; run twice, it writes once.

    Args:
        model: A run's folder (its own held-out requests are scored, unless told otherwise), or an export's (all).
        table: The request table; else the model's own.
        snapshot: A snapshot id instead of the current one.
        tag: A training set of the table that `table` names, instead of its current snapshot.
        where: A row filter, such as "request_ts >= '2026-01-01T00:00:00+00:00'".
        device: "cpu" or "cuda".
    """
    from lakehouse.errors import TableMissingError
    from lakehouse.settings import load_settings
    from reqlake.cli.dataset import snapshot_of
    from reqlake.show.score import live_requests, show_scores
    from serving.scoring import score as run

    settings = load_settings()
    if tag is not None:
        if table is None or snapshot is not None:
            raise TableMissingError("--tag is a training set of a table: name it with --table, and give no --snapshot")
        snapshot = snapshot_of(table, tag, settings)
    with live_requests(err()) as progress:
        report = run(
            model,
            settings,
            table=table,
            snapshot_id=snapshot,
            row_filter=where,
            device=device,
            progress=progress,
        )
    show_scores(out(), report)
