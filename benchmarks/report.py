"""How a benchmark tells: a table on the terminal, and `{name, machine, settings, rows, ratios}` as JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"
Row = Mapping[str, Any]


def arguments(
    name: str, description: str, add: Callable[[argparse.ArgumentParser], None] = lambda _: None
) -> argparse.Namespace:
    """`--quick` and `--out` of every benchmark, and what `add` adds; `out` is `results/NAME.json` unless quick."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=description)
    parser.add_argument("--quick", action="store_true", help="a small run that shows that it works; measures nothing")
    parser.add_argument("--out", type=Path, help=f"where the JSON goes, by default benchmarks/results/{name}.json")
    add(parser)
    given = parser.parse_args()
    if given.out is None and not given.quick:
        given.out = RESULTS / f"{name}.json"
    return given


def machine(*packages: str) -> dict[str, Any]:
    """The machine and the versions of the packages that matter."""
    versions = {}
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "python": platform.python_version(),
        "versions": versions,
    }


def publish(
    name: str,
    *,
    machine: Mapping[str, Any],
    settings: Mapping[str, Any],
    rows: Sequence[Row],
    ratios: Mapping[str, float],
    out: Path | None,
) -> None:
    """Print the rows and ratios; write the JSON where `out` says."""
    console = Console(width=None if os.isatty(1) else 140)
    for title, table in (("", rows), ("ratios", [{"ratio": k, "value": v} for k, v in ratios.items()])):
        shown = Table(title=title or name)
        names = list(dict.fromkeys(key for row in table for key in row))
        for column in names:
            shown.add_column(column, justify="left" if isinstance(table[0].get(column), str) else "right")
        for row in table:
            shown.add_row(*[_text(row.get(column, "")) for column in names])
        console.print(shown)
    if out is not None:
        result = {"name": name, "machine": machine, "settings": settings, "rows": list(rows), "ratios": dict(ratios)}
        out.parent.mkdir(parents=True, exist_ok=True)
        draft = out.with_name(f".{out.name}.tmp")
        draft.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        draft.replace(out)


def _text(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
