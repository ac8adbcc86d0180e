"""The reader's plan and a batch, for people. Values of sensitive columns are masked."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from feature_reader import BenchReport, Jagged, Origin, Reader, RequestBatch
from feature_reader.notebook import MASK, masked
from lakehouse.spec import DatasetSpec
from lakehouse.spec.advice import megabytes
from reqlake.show.rows import shown


def show_plan(console: Console, reader: Reader) -> None:
    """One line a read unit, and the sums."""
    plan = reader.plan
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("file", overflow="fold")
    for name in ("row group", "requests", "candidates", "decoded"):
        table.add_column(name, justify="right", no_wrap=True)
    for unit in plan.units:
        name = PurePosixPath(plan.files[unit.file]).name
        table.add_row(
            name, str(unit.row_group), f"{unit.requests:,}", f"{unit.candidates:,}", megabytes(unit.decoded_bytes)
        )
    console.print(table)
    left = [f"{plan.deleted:,} deleted"] if plan.deleted else []
    left += [f"{plan.filtered:,} filtered out"] if plan.filtered else []
    left += [f"{sum(plan.left_out):,} left out"] if any(plan.left_out) else []
    where = f"{len(plan.units)} read units of {len(plan.files)} files"
    parts = [f"{plan.requests:,} requests in {where}", f"{megabytes(plan.decoded_bytes)} decoded", *left]
    console.print(
        f"snapshot {', '.join(map(str, plan.snapshot_ids))}: {', '.join(parts)}; plan {plan.hash}", soft_wrap=True
    )


def show_batch(console: Console, spec: DatasetSpec, batch: RequestBatch | None) -> None:
    """Shapes of every column, then each request with its candidates."""
    if batch is None:
        console.print("no request: the table (or what the filter leaves of it) is empty", style="dim")
        return
    console.print(f"[bold]R = {batch.R}[/bold] requests, [bold]C = {batch.C}[/bold] candidates")
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("column", "of", "holds", "values"):
        table.add_column(name, no_wrap=name != "values", overflow="fold")
    for part, columns in (("request", batch.request), ("candidate", batch.candidates)):
        for name, column in columns.items():
            table.add_row(name, part, _shape(column), Text(_values(spec, name, column), "dim"))
    console.print(table)
    for i in range(batch.R):
        a, b = int(batch.candidate_offsets[i]), int(batch.candidate_offsets[i + 1])
        console.print(f"request {i}: candidates {a}:{b}", style="dim", end="  " if i < batch.R - 1 else "\n")


def show_origin(console: Console, origin: Origin) -> None:
    """One line a request: its file, row group and row."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("file", overflow="fold")
    for name in ("row group", "row"):
        table.add_column(name, justify="right", no_wrap=True)
    for file, group, row in origin.places():
        table.add_row(PurePosixPath(file).name, str(group), str(row))
    console.print(table)


def show_bench(console: Console, report: BenchReport) -> None:
    """One line a setting, and the fastest."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("threads", "window", "requests/s", "candidates/s", "decoded MB/s", "first batch ms", "bound by"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in report.rows:
        rates = (f"{row.requests_per_s:,.0f}", f"{row.candidates_per_s:,.0f}", f"{row.decoded_mb_per_s:,.0f}")
        table.add_row(str(row.threads), str(row.window), *rates, f"{row.first_batch_s * 1000:.0f}", row.bound)
    console.print(table)
    best = report.best
    console.print(
        f"fastest: threads={best.threads}, window={best.window}; speed up first: {best.bound}", soft_wrap=True
    )


def _shape(column: Any) -> str:
    if isinstance(column, Jagged):
        return f"{column.values.dtype} jagged, {len(column.values)} values"
    return f"{column.dtype} {list(column.shape)}"


def _values(spec: DatasetSpec, name: str, column: Any) -> str:
    if name in masked(spec):
        return MASK
    rows = column.tolist()
    return "  ".join(shown(row, 3) for row in rows[:4]) + ("  …" if len(rows) > 4 else "")
