"""What the expectation suite found."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lakehouse.quality import ValidationReport
from lakehouse.quality.results import BatchResults, Result, by_batch
from lakehouse.quality.volume import NULLS

BARS = "▁▂▃▄▅▆▇█"
SHOWN = 30


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


def show_history(console: Console, results: Sequence[Result]) -> None:
    """A line a batch; then how its requests and the shares of nulls moved over the batches."""
    batches = by_batch(results)
    if not batches:
        console.print("no result is kept: `reqlake ingest` keeps them, unless quality.keep_results is off", style="dim")
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("when", no_wrap=True)
    table.add_column("batch", no_wrap=True)
    table.add_column("requests", justify="right")
    table.add_column("found", overflow="fold")
    for batch in batches[-SHOWN:]:
        table.add_row(f"{batch.at:%Y-%m-%d %H:%M}", batch.batch_id[:20], f"{batch.rows:,}", _found(batch))
    console.print(table)
    kept = [b for b in batches if b.scope == "batch"][-SHOWN:]
    lines = {"requests": [float(b.rows) for b in kept]}
    for name in dict.fromkeys(name for b in kept for name in b.numbers if name.startswith(NULLS)):
        shares = [b.numbers[name] for b in kept if name in b.numbers]
        if max(shares) > 0:
            lines[f"nulls of {name.removeprefix(NULLS)}"] = shares
    if len(kept) > 1:
        for name, numbers in lines.items():
            last = f"{numbers[-1]:.1%}" if name.startswith("nulls") else f"{numbers[-1]:,.0f}"
            console.print(f"{name:<28} {spark_line(numbers)} {last}", highlight=False, markup=False)


def spark_line(numbers: Sequence[float]) -> str:
    """Numbers as bars from 0 to the greatest of them."""
    most = max(numbers) or 1.0
    return "".join(BARS[min(len(BARS) - 1, int(n / most * (len(BARS) - 1) + 0.5))] for n in numbers)


def _found(batch: BatchResults) -> Text:
    told = Text("; ".join(f"{r.expectation} {r.observed:,.0f}" for r in batch.failed), "red")
    odd = "; ".join(r.says for r in batch.odd)
    if odd:
        told.append(("; " if batch.failed else "") + odd, "yellow")
    return told if told.plain else Text("all hold", "green")
