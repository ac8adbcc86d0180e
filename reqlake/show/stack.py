"""The stack's services as a table."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lakehouse.stack.control import Status

COLOURS = {"up": "green", "not answering": "bold red", "down": "dim"}


def show_status(console: Console, states: list[Status]) -> None:
    """One line a service: what it does, its pid and its address."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("service", "state", "pid", "address"):
        table.add_column(heading)
    for one in states:
        pid = str(one.pid) if one.pid else ""
        table.add_row(one.service, Text(one.state, COLOURS[one.state]), pid, one.address or "")
    console.print(table)
