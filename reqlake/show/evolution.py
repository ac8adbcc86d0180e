"""What a changed spec means for its table, and what was done."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lakehouse.errors import ServerError
from lakehouse.evolution import Plan
from lakehouse.settings import Settings

COLOURS = {"add": "green", "rename": "cyan", "widen": "cyan", "drop": "yellow", "rule": "", "refuse": "bold red"}


def show_plan(console: Console, plan: Plan) -> None:
    """A line a step with the field id that the column has or gets; then what is refused."""
    name = ".".join(plan.table.name())
    if not plan.steps and not plan.refusals:
        console.print(f"{name} has this very spec: nothing to change")
        return
    _show_steps(console, plan)
    if plan.refusals:
        console.print(f"{len(plan.refusals)} refused: `reqlake spec apply` would change nothing", style="red")
    else:
        console.print("make it so with: reqlake spec apply FILE", style="dim")


def show_applied(console: Console, plan: Plan, stale: list[str], *, renamed: int = 0) -> None:
    """What was done, how many labels that wait were renamed, and which views show the table of before."""
    name = ".".join(plan.table.name())
    if renamed:
        console.print(f"{renamed:,} labels that wait for their impression have their new name")
    if not plan.steps:
        console.print(f"{name} has this very spec: nothing was changed")
        return
    _show_steps(console, plan)
    what = f"schema {plan.schema.schema_id} and spec" if plan.changes_schema else "spec"
    console.print(f"{name} now has {what} {plan.spec.hash}")
    if stale:
        console.print(
            f"{len(stale)} views in Trino are of before: {', '.join(stale)}. Run: reqlake views apply {name} "
            f"(`spec apply --views` does both)",
            style="yellow",
        )
    elif plan.changes_schema:
        console.print(f"views that you made of it are of before: reqlake views apply {name}", style="dim")


def stale_views(settings: Settings, plan: Plan) -> list[str]:
    """Views of ours in Trino that show the table of before, where a server is set and answers."""
    if settings.trino.uri is None or not plan.steps:
        return []
    from lakehouse.sql import view_server

    try:
        changes = view_server.diff(settings, plan.spec)
    except ServerError:
        return []
    return [change.name for change in changes if change.action in ("replace", "drop")]


def _show_steps(console: Console, plan: Plan) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    for step in plan.steps:
        number = None if step.kind == "rule" else plan.field_id(step)
        told = "" if number is None else f"field {number}"
        table.add_row(Text(step.kind, COLOURS[step.kind]), step.column, told, Text(step.says))
    for refusal in plan.refusals:
        table.add_row(Text("refuse", COLOURS["refuse"]), refusal.place, "", Text(refusal.why))
    console.print(table)
