"""The demo's steps: each calls the functions that the command line and Python users call, and shows the outcome."""

from __future__ import annotations

import time

from rich.console import Console
from rich.padding import Padding
from rich.syntax import Syntax

from feature_reader import Reader
from lakehouse import sql
from lakehouse.report import dedup_report, print_report, write_html
from lakehouse.report.units import size
from reqlake.demo.errors import DemoError
from reqlake.demo.movielens import write_raw_log
from reqlake.demo.people import show_people
from reqlake.demo.questions import QUESTIONS
from reqlake.demo.state import Demo
from reqlake.demo.summary import shown_path
from reqlake.show.ingest import live_steps, show_ingest
from reqlake.show.rows import show_rows
from reqlake.show.verify import show_verification


def make_raw_log(demo: Demo) -> None:
    """Write the raw log, and say what it is and which dirt it holds on purpose."""
    with demo.console.status("building requests from ratings"):
        log = demo.log = write_raw_log(demo.folder, users=demo.users)
    files = sorted(log.folder.glob("*.parquet"))
    demo.summary.raw_rows, demo.summary.raw_bytes = log.rows, sum(f.stat().st_size for f in files)
    console = demo.console
    console.print(
        f"{log.rows:,} rows, one per impression, in {len(files)} files ({size(demo.summary.raw_bytes)}): "
        f"{log.requests:,} requests of {log.users:,} users, the whole history repeated on every row."
    )
    console.print(
        "A request is a page of at most 16 consecutive ratings of a session; its history, every feature and every "
        "statistic are as of the page's first second."
    )
    dirt = log.dirt
    console.print(
        f"Dirt, put in on purpose: {dirt.exact_duplicates} exact duplicates, {dirt.null_user} rows without a user, "
        f"{dirt.rating_out_of_range} ratings of 11, {dirt.nan_feature} with NaN, {dirt.event_not_before_request} whose "
        f"history holds an event of the request's own time, {dirt.unequal_lists} with lists of unequal length; and "
        f"{dirt.conflicting_requests} requests whose rows disagree on a feature."
    )


def ingest(demo: Demo) -> None:
    """Spark: deduplicate, audit, publish; then prove that nothing was lost."""
    from spark_jobs import ingest as job
    from spark_jobs import verify

    with live_steps(demo.console) as step:
        step("Starting Spark")
        session = demo.spark
        report = job.run(session, demo.settings, demo.spec, demo.raw, progress=step)
        step("Comparing the table with the raw log")
        compared = verify.run(session, demo.settings, demo.spec, demo.raw)
    demo.stop_spark()  # its memory is wanted by training
    show_ingest(demo.console, report, demo.spec)
    demo.summary.requests, demo.summary.quarantined = report.requests, sum(report.quarantined.values())
    show_verification(demo.console, compared)
    if not compared.ok:
        raise DemoError("the request table does not hold what the raw log held")


def report(demo: Demo) -> None:
    """The dedup report, here and as a page."""
    with live_steps(demo.console) as step:
        found = dedup_report(demo.settings, demo.spec, demo.raw, scratch=demo.folder, progress=step)
    print_report(found, demo.console)
    page = write_html(found, demo.folder / "report.html")
    demo.console.print(f"The same with charts: {shown_path(page)}")
    raw, ordered, flat, table = (found.layout(k) for k in ("raw", "time_order", "flat_sorted", "requests"))
    summary = demo.summary
    summary.raw_bytes_time_order, summary.flat_sorted_bytes = ordered.file_bytes, flat.file_bytes
    summary.table_bytes = table.file_bytes
    summary.dedup_factor = round(flat.file_bytes / table.file_bytes, 2)
    summary.decoded_flat_bytes, summary.decoded_table_bytes = raw.decoded_bytes, table.decoded_bytes
    summary.decoded_factor = round(raw.decoded_bytes / table.decoded_bytes, 2)


def ask(demo: Demo) -> None:
    """Three questions; Trino's SQL, run in this process."""
    for question in QUESTIONS:
        started = time.perf_counter()
        rows = sql.query(demo.settings, question.sql)
        took = time.perf_counter() - started
        demo.console.print(f"[bold]{question.asks}[/bold]  [dim]{question.of}; {took:.1f} s[/dim]")
        _show_sql(demo.console, question.sql)
        show_rows(demo.console, rows)
        demo.console.print()


def train(demo: Demo) -> None:
    """The reader's speed, the training, the test."""
    from reqlake.show.train import show_training
    from training.config import TrainConfig
    from training.evaluate import evaluate
    from training.loop import train as start
    from training.progress import LiveProgress

    table = demo.spec.table("requests")
    demo.summary.reader_candidates_per_s = round(_reader_speed(demo, table))
    demo.console.print(f"The reader alone: {demo.summary.reader_candidates_per_s:,.0f} candidates a second.")
    with LiveProgress(demo.console) as progress:
        trained = start(TrainConfig(table=table, run=demo.run), demo.settings, progress)
    show_training(demo.console, trained)
    demo.summary.train_seconds = round(trained.seconds, 2)
    with demo.console.status("testing on the latest requests"):
        found = evaluate(demo.run, demo.settings, item_mean="item_mean", user_bias="user_bias")
    demo.console.print(found.table())
    demo.console.print(f"As a plot: {shown_path(demo.run / 'auc.png')}")
    demo.summary.auc, demo.summary.baseline_auc = (
        round(found.auc, 4),
        {name: round(auc, 4) for name, auc in found.baseline_auc.items()},
    )


def score(demo: Demo) -> None:
    """Scores of the held-out requests into an Iceberg table, and three users' rankings."""
    from reqlake.show.score import live_requests, show_scores
    from serving.scoring import score as run

    with live_requests(demo.console) as progress:
        report = run(demo.run, demo.settings, progress=progress)
    show_scores(demo.console, report)
    demo.summary.scored_rows = report.rows
    show_people(demo.console, demo.settings, demo.spec, demo.folder / "movies.parquet")


def _reader_speed(demo: Demo, table: str) -> float:
    """Candidates a second of one pass over the whole table, planning included."""
    started = time.perf_counter()
    candidates = sum(batch.C for batch in Reader.open(demo.settings, table))
    return candidates / (time.perf_counter() - started)


def _show_sql(console: Console, text: str) -> None:
    console.print(
        Padding(Syntax(text, "sql", theme="ansi_dark", background_color="default", word_wrap=True), (0, 0, 0, 2))
    )
