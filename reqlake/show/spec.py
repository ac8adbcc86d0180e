"""A spec for people: the table that follows from it, whether a raw log fits, how its files will be."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lakehouse.raw.partitions import wanted_types
from lakehouse.spec import Column, DatasetSpec
from lakehouse.spec.advice import Volume, describe, judge, megabytes
from lakehouse.spec.match import mismatches, unread
from lakehouse.spec.sample import raw_schema

STYLES = {
    "key": "bold",
    "request": "cyan",
    "sequence": "blue",
    "candidate_key": "bold",
    "candidate": "green",
    "label": "magenta",
    "rank": "dim",
}


def show_layout(console: Console, spec: DatasetSpec) -> None:
    """The request table's columns, one line each, after a line that names the table."""
    console.print(f"[bold]{spec.table()}[/bold]  {spec.doc}".rstrip())
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("column", "type", "role", "raw column", "about"):
        table.add_column(name, overflow="fold", no_wrap=name in ("column", "type"))
    for column in spec.columns():
        listed = f"list<{column.type}>" if column.per_candidate else str(column.type)
        raw = column.raw if column.feature else _key_source(spec, column)
        role = Text(column.role.replace("_", " "), STYLES[column.role])
        table.add_row(column.name, listed, role, raw, Text(_about(column), "dim"))
    console.print(table)
    names = [c.name for c in spec.columns("request", "sequence")]
    console.print(
        f"{len(names)} columns of the request are kept once per request; rows that disagree on one: {spec.conflict}. "
        f"Partition: {describe(spec.partition)}."
    )


def show_fit(console: Console, spec: DatasetSpec, raw: str) -> bool:
    """Whether a raw log has what the spec reads, and each place where it has not."""
    schema = raw_schema(raw, wanted_types(spec))
    found = mismatches(spec, schema)
    for mismatch in found:
        console.print(Text("✗ ", "red") + Text(str(mismatch)))
    if not found:
        console.print(f"[green]✓[/green] {raw} has every column that the spec reads, in types that fit")
    left = unread(spec, schema)
    if left:
        console.print(f"[yellow]![/yellow] the spec does not read {', '.join(left)}: ingest drops them")
    return not found


def show_advice(console: Console, spec: DatasetSpec, volume: Volume | None) -> None:
    """How the table's files will be, and what would be better."""
    if volume is None:
        console.print(
            "Partitioning is nearly irreversible: --raw LOG or --growth ROWS judges it by what is to come.", style="dim"
        )
        return
    advice = judge(spec.partition, volume)
    mark = "[green]✓[/green]" if advice.verdict == "good" else "[yellow]![/yellow]"
    total = megabytes(volume.bytes_in("none"))
    console.print(
        f"Expected: {volume.requests:,.0f} requests, {total} decoded, {volume.requests_per_day:,.1f} requests a day."
    )
    console.print(f"{mark} partition {advice}")


def _about(column: Column) -> str:
    feature = column.feature
    parts = [column.doc] if column.doc else []
    if feature is not None:
        parts += [f"{feature.range[0]:g} to {feature.range[1]:g}"] if feature.range else []
        parts += [f"embedding {feature.embedding}"] if feature.embedding else []
        parts += ["required"] if feature.required else []
        parts += ["sensitive"] if feature.sensitive else []
    return "; ".join(parts)


def _key_source(spec: DatasetSpec, column: Column) -> str:
    keys = spec.keys
    request = keys.request_id
    sources = {
        "user_id": keys.user_id.column,
        "request_id": request.column or request.expression or f"gap of {request.gap}",
        "request_ts": keys.request_ts.column,
        "item_id": keys.item_id.column,
        "position": keys.position or "",
        "impression_ts": keys.impression_ts.column if keys.impression_ts else "",
    }
    return sources.get(column.name.removesuffix("_raw"), "")
