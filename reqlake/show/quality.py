"""What the expectation suite found."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lakehouse.quality import ValidationReport


def show_validation(console: Console, report: ValidationReport) -> None:
    """One line a rule; what breaks it, with example keys."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for result in report.results:
        mark = Text("✓", "green") if result.passed else Text("✗", "red")
        says = Text(result.says)
        if not result.passed:
            says.append(f"\n{result.broken:,} requests do not, such as {', '.join(result.examples)}", "red")
        table.add_row(mark, Text(result.rule, "" if result.passed else "bold"), says)
    console.print(table)
    failed = sum(not r.passed for r in report.results)
    verdict = (
        f"{failed} of {len(report.results)} expectations failed"
        if failed
        else f"all {len(report.results)} expectations hold"
    )
    console.print(f"{report.table}: {verdict} on {report.rows:,} requests ({report.seconds:.1f} s)")
