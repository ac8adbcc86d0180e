"""A scoring job while it runs, and what it came to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from serving.scoring import ScoreReport


@contextmanager
def live_requests(console: Console) -> Iterator[Callable[[int, int], None]]:
    """A function that takes requests done and requests in all; a bar until the block ends."""
    columns = (TextColumn("scoring"), BarColumn(bar_width=24), MofNCompleteColumn(), TextColumn("requests"))
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as bar:
        task = bar.add_task("score", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def show_scores(console: Console, report: ScoreReport) -> None:
    """How many rows lie where, and by which model."""
    if report.skipped:
        console.print(f"Nothing to do: {report.table} holds these scores of model {report.model_version} already.")
        return
    rate = report.rows / max(report.seconds, 1e-9)
    console.print(
        f"[bold]{report.rows:,}[/bold] candidates of {report.requests:,} requests scored into {report.table} "
        f"by model {report.model_version} in {report.seconds:.1f} s ({rate:,.0f} a second)"
    )
