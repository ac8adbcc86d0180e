"""What became of a batch of labels."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lakehouse.spec import DatasetSpec
from spark_jobs.label_batch import LabelReport


def show_labels(console: Console, report: LabelReport, spec: DatasetSpec) -> None:
    """Labels in, and where each of them is now."""
    if report.waiting_files:
        names = ", ".join(file.rsplit("/", 1)[-1] for file in report.waiting_files[:5])
        console.print(f"{len(report.waiting_files)} files wait, having no readable footer yet: {names}", style="yellow")
    if report.skipped:
        console.print(f"Nothing to do: batch {report.batch_id} is in {spec.table()} already. No label was changed.")
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row(f"{report.labels:,}", f"labels in {report.rows:,} rows")
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(report.quarantined.items()))
    held = sum(report.quarantined.values())
    table.add_row(f"{held:,}", Text(f"rows go to {spec.table('quarantine')}" + (f": {reasons}" if reasons else "")))
    table.add_row(f"{report.matched:,}", "name impressions of the table")
    table.add_row(
        f"[bold]{report.updated:,}[/bold]",
        Text(f"values changed, in {report.requests:,} requests written anew; the others were known, or older"),
    )
    table.add_row(f"{report.waiting:,}", Text(f"wait for their impression in {spec.table('pending_labels')}"))
    if report.dropped:
        table.add_row(
            f"{report.dropped:,}",
            Text("had waited too long, and go to quarantine as label_without_impression"),
        )
    console.print(table)
    console.print(f"batch {report.batch_id}, snapshot {report.snapshot_id}", style="dim")
