"""What a demo came to: the numbers of `summary.json`, and the last screen."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from lakehouse.report.units import change, size
from reqlake.demo.ratings import CREDIT


@dataclass
class Summary:
    """One run of the demo. Bytes are bytes; the keys are those of `summary.json`."""

    raw_rows: int = 0
    raw_bytes: int = 0
    raw_bytes_time_order: int = 0
    flat_sorted_bytes: int = 0
    requests: int = 0
    """Rows of the request table."""
    quarantined: int = 0
    table_bytes: int = 0
    dedup_factor: float = 0.0
    """flat_sorted_bytes over table_bytes: against the same rows sorted by user and request, the published way."""
    decoded_flat_bytes: int = 0
    decoded_table_bytes: int = 0
    decoded_factor: float = 0.0
    """Decoded bytes of the flat rows, in any order, over those of the request table."""
    reader_candidates_per_s: float = 0.0
    train_seconds: float = 0.0
    auc: float = 0.0
    baseline_auc: dict[str, float] = field(default_factory=dict)
    scored_rows: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    def write(self, file: Path) -> None:
        """Write the summary as JSON, whole or not at all."""
        draft = file.with_suffix(".partial")
        draft.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")
        draft.replace(file)


def show_summary(console: Console, summary: Summary, folder: Path) -> None:
    """Rows, bytes, factors and seconds; where everything lies; what to try next."""
    s = summary
    best = max(s.baseline_auc, key=lambda name: s.baseline_auc[name])
    facts = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    facts.add_row(
        "rows", f"{s.raw_rows:,} raw rows became {s.requests:,} requests; {s.quarantined:,} rows in quarantine"
    )
    flat = f"{change(s.decoded_factor)} than the flat rows, in any order ({size(s.decoded_flat_bytes)})"
    facts.add_row("decoded", f"{size(s.decoded_table_bytes)}: {flat}")
    facts.add_row("on disk", f"{size(s.table_bytes)}: {_against(s)}")
    facts.add_row("reader", f"{s.reader_candidates_per_s:,.0f} candidates a second")
    facts.add_row("ranker", f"AUC {s.auc:.3f}, {best} {s.baseline_auc[best]:.3f}; trained in {s.train_seconds:.0f} s")
    facts.add_row("scores", f"{s.scored_rows:,} rows written back")
    spent = "  ".join(f"{name} {seconds:.1f}" for name, seconds in s.seconds.items())
    facts.add_row("seconds", f"{spent}  ([bold]{sum(s.seconds.values()):.0f} in all[/bold])")
    console.print(Panel(facts, title="[bold]What happened[/bold]", title_align="left", border_style="green"))
    console.print(_places(folder))
    console.print()
    console.print(_next(folder))
    console.print(Text(CREDIT, "dim"))


def _against(summary: Summary) -> str:
    """What the table's bytes on disk are against the flat rows, each factor with the layout it is against."""
    layouts = (
        ("the raw log as it lies", summary.raw_bytes),
        ("in time order", summary.raw_bytes_time_order),
        ("sorted by user and request", summary.flat_sorted_bytes),
    )
    table = max(summary.table_bytes, 1)
    return "; ".join(f"{change(flat / table)} than {name} ({size(flat)})" for name, flat in layouts)


def shown_path(path: Path) -> str:
    """Relative to the current folder where it lies below."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _places(folder: Path) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(style="dim")
    for name, about in (
        ("lake", "the Iceberg tables: requests, quarantine, ledger, scores"),
        ("raw", "the raw impression log that it made"),
        ("run", "the training run: checkpoints, the export, the evaluation and its plot"),
        ("report.html", "the dedup report with charts"),
        ("summary.json", "the numbers above"),
    ):
        table.add_row(shown_path(folder / name), about)
    return table


def _next(folder: Path) -> Text:
    run = shown_path(folder / "run")
    lines = [
        f"export REQLAKE_HOME={shown_path(folder / 'lake')}",
        "reqlake query                                     # the tables and views there are",
        "reqlake query 'SELECT hour, count(*) AS n FROM movielens_requests GROUP BY 1 ORDER BY 1'",
        "reqlake batches preview movielens                 # what a training loop gets",
        f"reqlake score {run} --where \"request_ts >= '2016-01-01T00:00:00+00:00'\"",
        f"reqlake spec infer {shown_path(folder / 'raw')}                  # draft a spec; then try it on your own log",
    ]
    text = Text("Try next:\n", "bold")
    for line in lines:
        command, mark, comment = line.partition("  #")
        text.append(f"  {command}", "not bold")
        text.append(f"{mark}{comment}\n" if mark else "\n", "dim not bold")
    return text
