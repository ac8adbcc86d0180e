"""What an ingest does while it runs, and its books afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lakehouse.spec import DatasetSpec
from spark_jobs.report import IngestReport


@contextmanager
def live_steps(console: Console) -> Iterator[Callable[[str], None]]:
    """A function that takes the name of each step as it begins: a spinner now, a line with seconds when it is done."""
    running: list[tuple[str, float]] = []
    with console.status("") as status:

        def done() -> None:
            for name, since in running:
                console.print(f"  [green]✓[/green] {name} [dim]{time.perf_counter() - since:.1f} s[/dim]")
            running.clear()

        def step(name: str) -> None:
            done()
            running.append((name, time.perf_counter()))
            status.update(name)

        yield step
        done()


def show_ingest(console: Console, report: IngestReport, spec: DatasetSpec) -> None:
    """Raw rows in, and where each of them is now."""
    if report.waiting_files:
        names = ", ".join(file.rsplit("/", 1)[-1] for file in report.waiting_files[:5])
        console.print(f"{len(report.waiting_files)} files wait, not being whole yet: {names}", style="yellow")
    if report.skipped:
        console.print(
            f"Nothing to do: batch {report.batch_id} is in {spec.table()} already. No row was added or changed."
        )
        return
    bad = sum(report.quarantined.values())
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row(f"{report.raw_rows:,}", "raw rows")
    table.add_row(f"{report.duplicate_rows:,}", "are exact duplicates: one of each is kept, the others are counted")
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(report.quarantined.items()))
    table.add_row(f"{bad:,}", Text(f"go to {spec.table('quarantine')}" + (f": {reasons}" if reasons else "")))
    columns = ", ".join(f"{column} {count:,}" for column, count in report.conflicts_by_column.items())
    rule = {"split": "both variants are kept", "first": "the first is kept", "latest": "the latest is kept"}[
        spec.conflict
    ]
    if report.conflict_rows:
        table.add_row(f"{report.conflict_rows:,}", Text(f"disagree with their request on {columns}: {rule}"))
    table.add_row(
        f"[bold]{report.requests:,}[/bold]",
        Text(f"new requests in {spec.table()}, {report.accepted_rows:,} new candidates")
        if report.merged_requests
        else Text(f"requests in {spec.table()} with {report.accepted_rows:,} candidates"),
    )
    if report.merged_requests:
        table.add_row(f"{report.merged_requests:,}", "known requests written anew with their late impressions")
    if report.replaced_requests:
        table.add_row(f"{report.replaced_requests:,}", "requests that the source changed were taken out for them")
    console.print(table)
    for warning in report.warnings:
        console.print(f"unlike the last batches: {warning}", style="yellow")
    console.print(f"batch {report.batch_id}, snapshot {report.snapshot_id}", style="dim")
