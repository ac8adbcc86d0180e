"""The diagnosis as a table, and what it comes to."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from reqlake.doctor import Finding

MARKS = {"ok": ("✓", "green"), "optional": ("–", "yellow"), "broken": ("✗", "bold red")}


def show_findings(console: Console, findings: list[Finding]) -> None:
    """One line a finding, its remedy below it, and the sum."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        detail = Text(finding.detail)
        if finding.remedy:
            detail.append(f"\n→ {finding.remedy}", "yellow" if finding.state == "optional" else "red")
        table.add_row(Text(*MARKS[finding.state]), Text(finding.about), detail)
    console.print(table)
    broken = [f.about for f in findings if f.state == "broken"]
    missing = [f.about for f in findings if f.state == "optional"]
    if broken:
        console.print(f"reqlake cannot work here: mend {', '.join(broken)}.", style="bold red")
    elif missing:
        console.print("The core works (specs, reading, SQL, reports). What is marked – is only missing if you want it.")
    else:
        console.print("Everything is here. Try: reqlake demo", style="green")
