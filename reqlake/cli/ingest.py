"""`reqlake ingest`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tyro.conf import Positional

from reqlake.cli.terminal import err, out

if TYPE_CHECKING:
    from spark_jobs.sources import OnChange, TableRange


def ingest(
    spec: Positional[Path],
    raw: Positional[tuple[str, ...]] = (),
    /,
    *,
    table: str | None = None,
    from_snapshot: int | None = None,
    to_snapshot: int | None = None,
    on_change: Literal["refuse", "reingest"] = "refuse",
    batch_id: str | None = None,
    labels: bool = False,
    stream: bool = False,
    once: bool = False,
    every: float = 10.0,
    checkpoint: Path | None = None,
) -> None:
    """Bring a raw impression log into its request table: deduplicated, validated, then published, exactly once.

    Args:
        spec: The dataset's spec, a YAML file.
        raw: The raw log: Parquet, ORC or Avro files, folders, quoted patterns, on disk or s3://. Late rows of a known
            request merge into its row.
        table: An Iceberg table of the catalog instead, as NAMESPACE.NAME: what was appended to it since the last time.
        from_snapshot: Go on after this snapshot of the table; 0 reads the whole table.
        to_snapshot: Stop at this snapshot of the table; else at the current one.
        on_change: What to do where snapshots of the table deleted or overwrote rows: refuse the range, or take the
            requests that they touched out and bring their present rows in (reingest).
        batch_id: Name of the batch; else a hash of its files, so that a file is never ingested twice.
        labels: The files hold labels of impressions, not impressions: those that are known get them in place, the
            others when they come.
        stream: Keep on ingesting what comes to a folder, a pattern or the table, until Ctrl-C.
        once: With --stream, take what is there and stop.
        every: With --stream, seconds between two looks.
        checkpoint: With --stream, the folder that remembers what was found; else one in the lake's home.
    """
    from lakehouse.errors import RawDataError
    from lakehouse.settings import load_settings
    from lakehouse.spec import load_spec
    from reqlake.show.ingest import live_steps, show_ingest
    from spark_jobs import ingest as job
    from spark_jobs.session import build_session
    from spark_jobs.stream import Stream

    if labels:
        _ingest_labels(spec, raw, batch_id, alone=not (table or stream))
        return
    source = source_of(raw, table, from_snapshot, to_snapshot, on_change)
    if stream and any(given is not None for given in (batch_id, from_snapshot, to_snapshot)):
        raise RawDataError("--batch-id, --from-snapshot and --to-snapshot are of one batch: a stream goes on by itself")
    if once and not stream:
        raise RawDataError("--once says that a --stream stops when it has taken what is there")
    settings, dataset = load_settings(), load_spec(spec)
    with live_steps(err()) as step:
        step("Starting Spark")
        session = build_session(settings)
        if stream:
            running = Stream(
                session,
                settings,
                dataset,
                source,
                report=lambda report: show_ingest(out(), report, dataset),
                progress=step,
                every=every,
                checkpoint=checkpoint,
            )
            step("Waiting for new files" if raw else "Waiting for new snapshots")
            running.run(once=once)
            return
        report = job.run(session, settings, dataset, source, batch_id=batch_id, progress=step)
    show_ingest(out(), report, dataset)


def _ingest_labels(spec: Path, files: tuple[str, ...], batch_id: str | None, *, alone: bool) -> None:
    """Bring label files in."""
    from lakehouse.errors import RawDataError
    from lakehouse.settings import load_settings
    from lakehouse.spec import load_spec
    from reqlake.show.ingest import live_steps
    from reqlake.show.labels import show_labels
    from spark_jobs import label_batch
    from spark_jobs.session import build_session

    if not files or not alone:
        raise RawDataError("--labels wants files, folders or patterns, and goes without --table and --stream")
    settings, dataset = load_settings(), load_spec(spec)
    with live_steps(err()) as step:
        step("Starting Spark")
        session = build_session(settings)
        report = label_batch.run(session, settings, dataset, list(files), batch_id=batch_id, progress=step)
    show_labels(out(), report, dataset)


def source_of(
    raw: tuple[str, ...],
    table: str | None,
    from_snapshot: int | None = None,
    to_snapshot: int | None = None,
    on_change: OnChange = "refuse",
) -> list[str] | TableRange:
    """What was asked for. Raises RawDataError for neither files nor a table, or both."""
    from lakehouse.errors import RawDataError
    from spark_jobs.sources import TableRange

    if bool(raw) == (table is not None):
        raise RawDataError("give either the raw log's files, folders or patterns, or --table NAMESPACE.NAME")
    if table is not None:
        return TableRange(table, from_snapshot, to_snapshot, on_change)
    if from_snapshot is not None or to_snapshot is not None or on_change != "refuse":
        raise RawDataError("--from-snapshot and --to-snapshot are snapshots of a --table, which --on-change is about")
    return list(raw)
