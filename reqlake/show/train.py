"""What a training run came to."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from training.loop import TrainReport


def show_training(console: Console, report: TrainReport) -> None:
    """The best epoch, the speed, and where the export lies."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    best = report.best
    table.add_row(
        "best epoch", f"{best.epoch + 1}: validation AUC {best.validation_auc:.4f}, entropy {best.validation:.4f}"
    )
    speed = f"{report.requests_per_s:,.0f} requests/s, {report.candidates_per_s:,.0f} candidates/s"
    table.add_row(
        "trained", f"{report.steps:,} steps in {report.seconds:.1f} s; {speed}, reader wait {report.reader_wait:.0%}"
    )
    table.add_row("run", str(report.run))
    table.add_row("export", f"{report.export}  (version {report.version})")
    console.print(table)
