"""What maintenance is due, and what it did: files, bytes, rows and snapshots, before and after."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lakehouse.report.units import size
from lakehouse.spec import DatasetSpec
from lakehouse.upkeep.health import PartitionHealth
from lakehouse.upkeep.state import UpkeepReport

SHOWN = 20


def show_plan(console: Console, due: list[PartitionHealth], spec: DatasetSpec) -> None:
    """The partitions that are due, why, and what a rewrite saves."""
    if not due:
        console.print(f"no partition of {spec.table()} is due for compaction")
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("partition", overflow="fold")
    for name in ("files", "bytes", "files of a user"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("why", overflow="fold")
    for p in due[:SHOWN]:
        depth = f"{p.overlap_depth} → 1" if p.overlap_depth > 1 else "1"
        why = Text(", ".join(p.reasons) or "asked")
        table.add_row(Text(p.name), f"{p.files} → {p.files_after}", size(p.file_bytes), depth, why)
    console.print(table)
    if len(due) > SHOWN:
        console.print(f"and {len(due) - SHOWN} more partitions", style="dim")
    files, after = sum(p.files for p in due), sum(p.files_after for p in due)
    deletes, saved = sum(p.delete_files for p in due), sum(p.saved_bytes for p in due)
    console.print(
        f"rewrites {size(sum(p.file_bytes for p in due))}; saves {files - after} of {files} files, {deletes} delete "
        f"files and {size(saved)} of deleted rows"
    )


def show_upkeep(console: Console, reports: list[UpkeepReport]) -> None:
    """One block a job that did something."""
    busy = [r for r in reports if r.did]
    if not busy:
        tables = ", ".join(dict.fromkeys(r.table for r in reports)) or "the dataset"
        console.print(f"nothing was due: {tables}")
        return
    for r in busy:
        would = "would: " if r.dry_run else ""
        console.print(f"[bold]{r.job}[/bold] {r.table}: {would}{'; '.join(r.did)} [dim]{r.seconds:.1f} s[/dim]")
        if r.removed_files:
            verb = "replaces" if r.job in ("compact", "column retention") else "removes"
            console.print(f"  {verb} {r.removed_files:,} files, {size(r.removed_bytes)}")
        if r.before != r.after:
            table = Table(box=None, pad_edge=False, header_style="dim")
            for name in ("", "files", "delete files", "bytes", "rows", "manifests", "snapshots"):
                table.add_column(name, justify="right" if name else "left")
            for name, s in (("  before", r.before), ("  after", r.after)):
                counts = (f"{n:,}" for n in (s.rows, s.manifests, s.snapshots))
                table.add_row(name, f"{s.files:,}", f"{s.delete_files:,}", size(s.file_bytes), *counts)
            console.print(table)
