"""The report in the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lakehouse.report.console_layout import print_costs, print_layout
from lakehouse.report.dedup import DedupReport
from lakehouse.report.distribution import Distribution
from lakehouse.report.units import change, size

BAR = 18
WIDE = 100  # columns of a terminal below which bars are short and the columns' kinds left out
SHOWN_COLUMNS = 14


def print_report(report: DedupReport, console: Console) -> None:
    """Print layouts, factors, columns and distributions; fits 80 columns, and shows more in 100."""
    wide = console.width >= WIDE
    console.print()
    console.print(
        Text.assemble(
            ("Dedup report ", "bold"),
            (report.dataset, "bold cyan"),
            f"  {report.raw_rows:,} raw rows, {report.candidates:,} impressions in {report.requests:,} requests "
            f"of {report.users:,} users",
        )
    )
    console.print(_layouts(report, BAR if wide else BAR // 2 - 1))
    console.print(_factors(report))
    console.print(Text(report.neighbours, style="dim"), width=min(console.width, 100))
    console.print(_columns(report, kinds=wide))
    console.print(_distributions(report))
    console.print(_health(report))
    if report.layout_advice is not None:
        print_layout(report.layout_advice, console)
    if report.costs is not None:
        print_costs(report.costs, console)


def _bar(value: int, largest: int, style: str, length: int) -> Text:
    cells = value / largest * length if largest else 0.0
    eighths = " ▏▎▍▌▋▊▉"
    whole = int(cells)
    rest = eighths[int((cells - whole) * 8)].strip()
    return Text(("█" * whole + rest) or "▏", style=style)


def _layouts(report: DedupReport, bar: int) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), title="Bytes of the same impressions", title_justify="left")
    for name in ("layout", "files", "on disk", "", "decoded", ""):
        table.add_column(name, justify="right" if name in ("files", "on disk", "decoded") else "left", no_wrap=True)
    disk = max(layout.file_bytes for layout in report.layouts)
    memory = max(layout.decoded_bytes for layout in report.layouts)
    for layout in report.layouts:
        style = "green" if layout.key == "requests" else "yellow"
        table.add_row(
            layout.label,
            f"{layout.files}",
            size(layout.file_bytes),
            _bar(layout.file_bytes, disk, style, bar),
            size(layout.decoded_bytes),
            _bar(layout.decoded_bytes, memory, style, bar),
        )
    return table


def _factors(report: DedupReport) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), title="Factors, each with its baseline", title_justify="left")
    table.add_column("request table has", justify="right", style="bold")
    table.add_column("of")
    table.add_column("than")
    for factor in report.factors:
        table.add_row(change(factor.value), factor.quantity, factor.baseline[0].lower() + factor.baseline[1:])
    return table


def _columns(report: DedupReport, *, kinds: bool) -> Table:
    padding = (0, 2 if kinds else 1, 0, 0)
    table = Table(box=None, padding=padding, title="Columns, compressed and decoded bytes", title_justify="left")
    table.add_column("raw column", no_wrap=True, max_width=24)
    if kinds:
        table.add_column("kind")
    for name in ("as it lies", "time order", "sorted", "requests", "flat", "requests"):
        table.add_column(name, justify="right", no_wrap=True)
    shown = report.columns[:SHOWN_COLUMNS]
    for c in shown:
        name = f"{c.name} (sensitive)" if c.sensitive else c.name
        sizes = (c.raw, c.time_order, c.flat_sorted, c.requests, c.decoded_flat, c.decoded_requests)
        table.add_row(name, *[c.kind] * kinds, *(size(s) if s else "–" for s in sizes))
    rest = report.columns[SHOWN_COLUMNS:]
    if rest:
        sums = [
            sum(getattr(c, part) for c in rest)
            for part in ("raw", "time_order", "flat_sorted", "requests", "decoded_flat", "decoded_requests")
        ]
        table.add_row(f"{len(rest)} more", *[""] * kinds, *(size(s) for s in sums), style="dim")
    return table


def _distributions(report: DedupReport) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), title="Per request", title_justify="left")
    table.add_column("")
    for name in ("mean", "median", "90 %", "99 %", "most"):
        table.add_column(name, justify="right")
    table.add_column("distribution", no_wrap=True)
    rows = [("candidates (fan-out)", report.fan_out)]
    rows += [(f"events of {name}", found) for name, found in report.histories.items()]
    for name, found in rows:
        figures = (found.median, found.p90, found.p99, found.maximum)
        table.add_row(name, f"{found.mean:.1f}", *(f"{n:,}" for n in figures), _spark(found))
    return table


def _health(report: DedupReport) -> Table | Text:
    if not report.health:
        return Text("Health: nothing to mend", style="dim")
    table = Table(box=None, padding=(0, 2, 0, 0), title="Health", title_justify="left")
    table.add_column("finding", overflow="fold")
    table.add_column("mended by", overflow="fold")
    for advice in report.health:
        table.add_row(advice.finding, Text(advice.command, "bold"))
    return table


def _spark(found: Distribution) -> str:
    blocks = "▁▂▃▄▅▆▇█"
    most = max((b.count for b in found.bins), default=0)
    return "".join(blocks[min(7, b.count * 8 // (most + 1))] if b.count else " " for b in found.bins)
