"""What a rebucket would do, and what it did."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lakehouse.report.units import size
from lakehouse.spec.advice import describe
from spark_jobs.rebucket import RebucketReport
from spark_jobs.rebucket_plan import RebucketPlan


def show_plan(console: Console, plan: RebucketPlan) -> None:
    """From which layout to which, what is written at least, what comes over and what does not."""
    s, files = plan.state, max(1, plan.partitions)
    console.print(f"{plan.table}: {describe(plan.before)} → {describe(plan.after)}", markup=False)
    console.print(
        f"  {s.rows:,} rows and {size(s.file_bytes)} in {s.files:,} files are written anew, in at most {files:,} "
        f"partitions of about {size(s.file_bytes // files)}"
    )
    for name, kind, rows in plan.states:
        console.print(f"  {kind} {name}: {rows:,} rows", markup=False)
    console.print(f"  sets share the partitions in which they are equal; {_lost(plan.lost, plan.kept)}")
    if plan.unfinished:
        console.print("  a run that died has begun to build: it is gone on with", style="yellow")


def show_rebucket(console: Console, report: RebucketReport) -> None:
    """The layout, the mapping of snapshots, and what did not come over."""
    console.print(
        f"[bold]{report.table}[/bold] is laid out as {describe(report.partition)} [dim]{report.seconds:.1f} s[/dim]"
    )
    for name, s in (("before", report.before), ("after", report.after)):
        console.print(f"  {name}: {s.files:,} files, {size(s.file_bytes)}, {s.rows:,} rows, {s.snapshots:,} snapshots")
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("  tag or branch", "snapshot of before", "snapshot of now"):
        table.add_column(name, no_wrap=True)
    for name, old, new in report.snapshots:
        table.add_row(Text(f"  {name}"), str(old), str(new))
    console.print(table)
    if report.written:
        console.print(f"  {report.written:,} partitions written, read back and equal to the source in every column")
    dataset = report.table.rpartition(".")[2].removesuffix("_requests")
    console.print(f"  {_lost(report.lost, report.kept)}")
    console.print(f"  `reqlake rebucket {dataset} --back` swaps {report.kept} in again, `--drop-kept` removes it")
    console.print(f"  its spec has another partition now: `reqlake spec show {dataset}` prints it for the next ingest")


def _lost(snapshots: int, kept: str) -> str:
    return f"{snapshots:,} snapshots that no tag or branch holds stay behind in {kept}"
