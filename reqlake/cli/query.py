"""`reqlake query`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from reqlake.cli.terminal import err, out, working


def query(
    sql: Positional[str] = "",
    /,
    *,
    snapshot: int | None = None,
    tag: str | None = None,
    limit: int = 40,
    explain: bool = False,
    form: Annotated[Literal["table", "csv", "json"], arg(name="format")] = "table",
    out_file: Path | None = None,
) -> None:
    """Run a Trino query on the lake, without a server or on the one that is set; without SQL, list tables and views.

    Args:
        sql: The query, as Trino takes it.
        snapshot: Read the table that has this snapshot id as of it.
        tag: Read every table of the query as of this tag.
        limit: Rows of a table to print; the query itself is not limited, and csv and json print every row.
        explain: Show how the query would run instead.
        form: How rows are printed.
        out_file: Write all rows there, as .parquet, .csv or .json, instead of printing.
    """
    from lakehouse import sql as engine
    from lakehouse.settings import load_settings
    from reqlake.show.formats import print_rows, write_rows
    from reqlake.show.rows import show_names, show_rows

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
            written = write_rows(rows, out_file)
        err().print(f"wrote {written:,} rows to {out_file}", soft_wrap=True)
    elif form == "table":
        with working("running the query"), engine.stream(settings, sql, snapshot=snapshot, tag=tag) as rows:
            show_rows(out(), rows, limit)
    else:
        with engine.stream(settings, sql, snapshot=snapshot, tag=tag) as rows:
            print_rows(rows, form, sys.stdout.buffer)
