"""What a verification found: one sentence if all is well, else the days and the rows that differ."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from spark_jobs.verify_report import VerifyReport

MOST_DAYS = 10


def show_verification(console: Console, report: VerifyReport) -> None:
    """The books, then whatever does not agree."""
    books = (
        f"{report.raw_rows:,} raw rows = {report.expanded_rows:,} of the expanded table + "
        f"{report.quarantined_rows:,} in quarantine + {report.duplicate_rows:,} duplicates"
    )
    compared = f"{len(report.columns)} columns, {len(report.days):,} days, {report.requests:,} requests"
    if report.ok:
        console.print(f"[green]✓[/green] Nothing was lost: {books}.")
        console.print(f"Every checksum agrees ({compared}; {report.seconds:.1f} s).", style="dim")
        return
    console.print(
        f"[red]✗[/red] The table is not the raw log: {books}{'' if report.balanced else ', which does not add up'}."
    )
    for fault, count in report.request_faults.items():
        console.print(Text(f"  {count:,} requests: {fault}", "red"))
    wrong = [day for day in report.days if not day.agrees]
    for day in wrong[:MOST_DAYS]:
        what = f"checksums differ on {', '.join(day.differing)}" if day.differing else "row counts differ"
        console.print(Text(f"  {day.day}: {day.raw_rows:,} raw rows, {day.table_rows:,} in the table; {what}"))
    if len(wrong) > MOST_DAYS:
        console.print(f"  and {len(wrong) - MOST_DAYS:,} more days", style="dim")
    _show_differences(console, report)


def _show_differences(console: Console, report: VerifyReport) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("row", "user", "request", "item", "what differs: raw, table", "raw file and row"):
        table.add_column(name, overflow="fold")
    for d in report.differences:
        columns = "; ".join(f"{name}: {raw}, {kept}" for name, (raw, kept) in d.columns.items())
        table.add_row(d.kind, d.user_id, d.request_id, d.item_id, Text(columns), d.place)
    if report.differences:
        console.print(f"{len(report.differences)} of {report.differing_rows:,} rows that differ:")
        console.print(table)
