"""Training sets, and what changed between two, for people."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lakehouse.report.units import size
from lakehouse.tags import TagDiff, TrainingSet
from lakehouse.tags.page import rate

STYLE = {"steady": "", "moved": "yellow", "moved much": "red"}
SHOWN = 20


def show_set(console: Console, found: TrainingSet) -> None:
    """One set and the tables that it pins."""
    console.print(f"[bold]{found.name}[/bold]")
    for table, pinned in found.tables.items():
        console.print(f"  {table}  snapshot {pinned.snapshot_id}, schema {pinned.schema_id}", soft_wrap=True)


def show_sets(console: Console, sets: list[TrainingSet]) -> None:
    """A line a set."""
    if not sets:
        console.print("no training sets yet: `reqlake tag create DATASET NAME` pins one", style="dim")
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("name", "made", "requests", "bytes", "tables"):
        table.add_column(name, justify="right" if name in ("requests", "bytes") else "left", no_wrap=True)
    for s in sets:
        requests = "–" if s.requests is None else f"{s.requests:,}"
        pinned = ", ".join(f"{t} {p.snapshot_id}" for t, p in s.tables.items())
        made = f"{s.created:%Y-%m-%d %H:%M}{' by rule' * (s.rule is not None)}"
        table.add_row(s.name, made, requests, size(s.file_bytes or 0), pinned)
    console.print(table)


def show_diff(console: Console, diff: TagDiff) -> None:
    """Counts, label rates, and the features that moved most."""
    r = diff.requests
    console.print(
        f"{diff.before.name} to {diff.after.name}: {r.added:,} requests added, {r.removed:,} removed, "
        f"{r.changed:,} changed"
    )
    labels = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("label", diff.before.name, diff.after.name, "known", ""):
        labels.add_column(name, justify="left" if name == "label" else "right")
    for label in diff.labels:
        known = (f"{n:,}" for n in label.known)
        labels.add_row(label.label, rate(label.before), rate(label.after), *known)
    console.print(labels)
    drift = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("feature", "psi", ""):
        drift.add_column(name, justify="right" if name == "psi" else "left")
    for d in diff.drift[:SHOWN]:
        name = f"{d.column} (length)" if d.part == "length" else d.column
        drift.add_row(name, f"{d.psi:.3f}", Text(d.verdict, STYLE[d.verdict]))
    console.print(drift)
    if len(diff.drift) > SHOWN:
        console.print(f"and {len(diff.drift) - SHOWN} more that moved less", style="dim")
