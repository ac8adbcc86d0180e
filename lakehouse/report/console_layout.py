"""Layout advice and yearly cost in the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lakehouse.report.cost import Costs
from lakehouse.report.trials import LayoutAdvice
from lakehouse.report.units import milliseconds, money, size

SHOWN_COLUMNS = 8


def print_layout(found: LayoutAdvice, console: Console) -> None:
    """Every trial, the largest columns by encoding, and what follows."""
    if not found.trials:
        return
    for table in _tables(found):
        console.print(table)


def _tables(found: LayoutAdvice) -> Iterator[Table]:
    told = f"Layouts of a sample: {found.sample_rows:,} of {found.rows:,} requests, {size(found.sample_bytes)} decoded"
    trials = _table(told, "changed", "to", "on disk", "", "write", "decode")
    base = found.trials[0]
    for t in found.trials:
        against = "" if t is base else f"{t.file_bytes / base.file_bytes - 1:+.1%}"
        cells = (size(t.file_bytes), against, milliseconds(t.write_s), milliseconds(t.decode_s))
        trials.add_row(t.what, t.name, *cells)
    yield trials
    names = ("plain", "dictionary", "byte stream split")
    columns = _table("Encodings, column by column", "column", "best", *names)
    for c in found.columns[:SHOWN_COLUMNS]:
        tried = {name: f"{size(count)}, {milliseconds(seconds)}" for name, count, seconds in c.encodings}
        columns.add_row(c.name, c.best, *(tried.get(name, "–") for name in names))
    yield columns
    advised = Table(box=None, padding=(0, 2, 0, 0), title="Layout advice", title_justify="left")
    for name in ("of", "advice", "done by"):
        advised.add_column(name, overflow="fold")
    for r in found.recommendations:
        advised.add_row(r.subject, r.advice, Text(r.command, "bold"))
    yield advised


def print_costs(costs: Costs, console: Console) -> None:
    """A row a layout, and the formula."""
    table = _table("A year at the given prices", "layout", "", "storage", "reading", "together")
    for row in costs.rows:
        table.add_row(row.label, "", money(row.storage), money(row.reading), money(row.together))
    console.print(table)
    console.print(Text(costs.formula, style="dim"))


def _table(title: str, *columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), title=title, title_justify="left")
    for i, name in enumerate(columns):
        table.add_column(name, justify="left" if i < 2 else "right", no_wrap=True)
    return table
