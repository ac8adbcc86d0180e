"""`reqlake query`."""

from __future__ import annotations

from pathlib import Path

from tyro.conf import Positional

from reqlake.cli.terminal import err, out, working


def query(
    sql: Positional[str] = "",
    /,
    *,
    snapshot: int | None = None,
    tag: str | None = None,
    limit: int = 40,
    explain: bool = False,
    out_file: Path | None = None,
) -> None:
    """Run a Trino query on the lake, without a server; without SQL, list the tables and views.

    Args:
        sql: The query, as Trino would take it.
        snapshot: Read the table that has this snapshot id as of it.
        tag: Read every table of the query as of this tag.
        limit: Rows to print; the query itself is not limited.
        explain: Show how the query would run instead.
        out_file: Write all rows there, as .parquet or .csv, instead of printing.
    """
    from lakehouse import sql as engine
    from lakehouse.settings import load_settings
    from reqlake.show.rows import show_names, show_rows
    from reqlake.show.rows import write_rows as write

    settings = load_settings()
    if not sql:
        show_names(out(), engine.names(settings))
    elif explain:
        explanation = engine.explain(settings, sql, snapshot=snapshot, tag=tag)
        for scan in explanation.scans:
            out().print(str(scan), soft_wrap=True, markup=False)
        out().print(explanation.plan, soft_wrap=True, markup=False)
    elif out_file is not None:
        with working("running the query"), engine.stream(settings, sql, snapshot=snapshot, tag=tag) as rows:
            written = write(rows, out_file)
        err().print(f"wrote {written:,} rows to {out_file}", soft_wrap=True)
    else:
        with working("running the query"):
            table = engine.query(settings, sql, snapshot=snapshot, tag=tag)
        show_rows(out(), table, limit)
