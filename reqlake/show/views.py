"""What was done, or would be done, about each view."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lakehouse.applied_views import Change

STYLES = {"create": "green", "replace": "yellow", "drop": "red", "foreign": "bold red", "keep": "dim"}
DONE = {"create": "created", "replace": "replaced", "drop": "dropped", "keep": "kept", "foreign": "not ours"}


def show_changes(console: Console, changes: Sequence[Change], *, done: bool) -> None:
    """A line a view: what, which, why; then a count."""
    if not changes:
        console.print("no views of this dataset are there")
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    for change in changes:
        word = DONE[change.action] if done else change.action
        table.add_row(Text(word, STYLES[change.action]), Text(change.name), Text(change.why, "dim"))
    console.print(table)
    changed = sum(change.action not in ("keep", "foreign") for change in changes)
    console.print(f"{changed} of {len(changes)} views {'changed' if done else 'would change'}", style="dim")
