"""`reqlake ingest`."""

from __future__ import annotations

from pathlib import Path

from tyro.conf import Positional

from reqlake.cli.terminal import err, out


def ingest(spec: Positional[Path], raw: Positional[tuple[str, ...]], /, *, batch_id: str | None = None) -> None:
    """Bring a raw impression log into its request table: deduplicated, validated, then published, exactly once.

    Args:
        spec: The dataset's spec, a YAML file.
        raw: The raw log: Parquet files, folders, quoted patterns. Late rows of a known request merge into its row.
        batch_id: Name of the batch; else a hash of its files, so that a file is never ingested twice.
    """
    from lakehouse.settings import load_settings
    from lakehouse.spec import load_spec
    from reqlake.show.ingest import live_steps, show_ingest
    from spark_jobs import ingest as job
    from spark_jobs.session import build_session

    settings, dataset = load_settings(), load_spec(spec)
    with live_steps(err()) as step:
        step("Starting Spark")
        session = build_session(settings)
        report = job.run(session, settings, dataset, list(raw), batch_id=batch_id, progress=step)
    show_ingest(out(), report, dataset)
