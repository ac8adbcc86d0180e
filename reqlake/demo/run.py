"""The demo's seven steps in order, each timed; a step that fails says which it was and keeps what is there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from lakehouse.errors import ReqlakeError
from reqlake.demo import steps
from reqlake.demo.errors import DemoError
from reqlake.demo.folder import clean_folder, demo_settings
from reqlake.demo.ratings import CREDIT
from reqlake.demo.state import Demo
from reqlake.demo.summary import Summary, show_summary, shown_path

STEPS = (
    ("raw_log", "A raw impression log from MovieLens", steps.make_raw_log),
    ("ingest", "One row per request: deduplicated, validated, published, verified", steps.ingest),
    ("report", "What that is worth in bytes", steps.report),
    ("sql", "Three questions in SQL, without a server", steps.ask),
    ("train", "Train the DCAT ranker, and test it against plain baselines", steps.train),
    ("score", "Score the held-out requests and write the scores back", steps.score),
)


def run_demo(folder: Path, console: Console, *, users: int | None = None) -> Summary:
    """Run everything below `folder` (cleared first), and write `summary.json`. Raises DemoError that names the step.

    `users` keeps the first ones only, for tests.
    """
    folder = clean_folder(folder)
    demo = Demo(folder, demo_settings(folder), console, users=users)
    console.print(f"[bold]reqlake demo[/bold] in {shown_path(folder)}")
    console.print(CREDIT, style="dim", markup=False)
    for number, (name, title, step) in enumerate(STEPS, start=1):
        console.print()
        console.rule(f"[bold]{number}/{len(STEPS) + 1}[/bold]  {title}", align="left", style="green")
        with _timed(demo, name, number):
            step(demo)
    console.print()
    console.rule(f"[bold]{len(STEPS) + 1}/{len(STEPS) + 1}[/bold]  Summary", align="left", style="green")
    demo.summary.write(folder / "summary.json")
    show_summary(console, demo.summary, folder)
    return demo.summary


@contextmanager
def _timed(demo: Demo, name: str, number: int) -> Iterator[None]:
    """Keep the step's seconds under its name. Whatever stops it, Spark is stopped and the user is told where."""
    started = time.perf_counter()
    try:
        yield
    except ReqlakeError as error:
        demo.stop_spark()
        where = f"step {number} ({name}) of the demo failed; what the steps before it made stays in {demo.folder}"
        raise DemoError(f"{error}\n{where}") from error
    except BaseException:
        demo.stop_spark()
        demo.console.print(
            f"stopped in step {number} ({name}); what was made so far stays in {demo.folder}", style="red"
        )
        raise
    demo.summary.seconds[name] = round(time.perf_counter() - started, 2)
    demo.console.print(f"{demo.summary.seconds[name]:.1f} s", style="dim")
