"""Held rows, for people."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lakehouse.quarantine import HeldGroup, HeldRow
from spark_jobs.replay import ReplayReport

LONG = 60


def show_groups(console: Console, groups: list[HeldGroup]) -> None:
    """A line a reason of a batch."""
    if not groups:
        console.print("nothing is held: every raw row is in the table, or is a duplicate of one that is", style="dim")
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("rows", "reason", "column", "files", "when", "batch"):
        table.add_column(name, justify="right" if name in ("rows", "files") else "left", overflow="fold")
    for g in groups:
        table.add_row(f"{g.rows:,}", g.reason, g.detail, f"{g.files:,}", f"{g.newest:%Y-%m-%d %H:%M}", g.batch_id)
    console.print(table)


def show_rows(console: Console, rows: list[HeldRow]) -> None:
    """Each row with its reason, its place and what it holds."""
    for r in rows:
        why = f"{r.reason} ({r.detail})" if r.detail else r.reason
        console.print(Text.assemble((why, "bold"), f"  {r.file.rsplit('/', 1)[-1]} row {r.row}"), soft_wrap=True)
        for name, value in r.raw.items():
            text = str(value)
            shown = text if len(text) <= LONG else f"{text[:LONG]}…"
            console.print(f"  {name:<20} {shown}", markup=False, highlight=False, soft_wrap=True)


def show_replay(console: Console, report: ReplayReport) -> None:
    """What became of each held row."""
    for name in report.settled:
        console.print(f"{name} had died half done: it is settled", style="yellow")
    if not report.tried and not report.left:
        console.print("nothing is held that was asked for", style="dim")
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    would = "would be" if report.dry_run else "are now"
    table.add_row(f"{report.tried:,}", "held rows tried again")
    table.add_row(
        f"[bold]{report.accepted:,}[/bold]",
        f"{would} in the table: {report.requests:,} new requests, {report.merged_requests:,} written anew",
    )
    table.add_row(f"{report.duplicates:,}", "are in the table already: they leave the quarantine too")
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in report.still.items())
    table.add_row(f"{sum(report.still.values()):,}", Text("stay held" + (f": {reasons}" if reasons else "")))
    for why, count in report.left.items():
        table.add_row(f"{count:,}", Text(f"not tried: each {why}"))
    console.print(table)
