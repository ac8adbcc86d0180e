"""What a backfill did."""

from __future__ import annotations

from rich.console import Console

from lakehouse.report.units import size
from spark_jobs.backfill import BackfillReport


def show_backfill(console: Console, report: BackfillReport, *, dry_run: bool = False) -> None:
    """Keys, partitions, files and bytes."""
    k = report.keys
    verb = "added to" if report.added else "written in"
    verb = f"would be {verb}" if dry_run else verb
    console.print(
        f"[bold]{report.feature}[/bold] {verb} {report.table} from {k.source:,} keys [dim]{report.seconds:.1f} s[/dim]"
    )
    console.print(
        f"  {k.extra:,} keys of the source are not in the table; {k.missing:,} of the table are not in the source"
    )
    again = f", {report.resumed:,} were done by an earlier run" if report.resumed else ""
    console.print(f"  {report.partitions:,} partitions {'to write' if dry_run else 'written'}{again}")
    if dry_run:
        return
    for name, s in (("before", report.before), ("after", report.after)):
        console.print(f"  {name}: {s.files:,} files, {size(s.file_bytes)}, {s.rows:,} rows, {s.snapshots:,} snapshots")
    for note in report.notes:
        console.print(f"  {note}", style="yellow")
