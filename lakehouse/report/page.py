"""The report as one HTML page that needs nothing beside it: light and dark, readable without colours."""

from __future__ import annotations

from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from lakehouse.pages import write_page
from lakehouse.report.charts import bars, histogram
from lakehouse.report.dedup import DedupReport, Factor
from lakehouse.report.distribution import Distribution
from lakehouse.report.page_layout import cost_section, layout_section
from lakehouse.report.units import change, size

WORST = 6
"""Partitions that the charts of the table's health show."""


def write_html(report: DedupReport, path: str | Path) -> Path:
    """Write the page; a reader sees the old one or the new one, never half of it. Returns the path."""
    return write_page(render(report), path)


def render(report: DedupReport) -> str:
    """The page's text."""
    template = Template(files("lakehouse.report").joinpath("page.html").read_text(encoding="utf-8"))
    flat, requests = report.layout("raw"), report.layout("requests")
    distributions = [_distribution("Candidates per request", report.fan_out, "candidates")]
    distributions += [
        _distribution(f"Events of {name} per request", found, "events") for name, found in report.histories.items()
    ]
    return template.substitute(
        dataset=escape(report.dataset),
        raw_rows=f"{report.raw_rows:,}",
        candidates=f"{report.candidates:,}",
        requests=f"{report.requests:,}",
        users=f"{report.users:,}",
        tiles="\n".join(_tiles(report)),
        neighbours=escape(report.neighbours),
        disk_chart=bars([(x.key, x.label, x.file_bytes) for x in report.layouts], "Bytes on disk"),
        decoded_chart=bars(
            [
                ("flat_sorted", "Flat rows, in any order", flat.decoded_bytes),
                ("requests", requests.label, requests.decoded_bytes),
            ],
            "Bytes decoded",
        ),
        factor_rows="\n".join(_factor_rows(report)),
        column_rows="\n".join(_column_rows(report)),
        distributions="\n".join(distributions),
        health=_health(report),
        layout=layout_section(report.layout_advice),
        cost=cost_section(report.costs),
        settings=escape(report.settings),
        snapshot=report.snapshot_id if report.snapshot_id is not None else "none yet",
        seconds=f"{report.seconds:.1f} s",
    )


def _health(report: DedupReport) -> str:
    return _findings(report) + _partitions(report)


def _partitions(report: DedupReport) -> str:
    """Two charts of the partitions that a user's query has to open the most files of."""
    worst = report.partitions[:WORST]
    if not worst:
        return ""
    few = f"the {WORST} worst of {len(report.partitions):,}" if len(report.partitions) > WORST else "all of them"
    charts = (
        ("Files that may hold one user", [("requests", p.name or "the table", p.files_of_a_user) for p in worst]),
        ("Small files", [("flat_sorted", p.name or "the table", p.small_files) for p in worst]),
    )
    drawn = "".join(
        f'<div><h3>{title}</h3><p class="soft">By partition, {few}.</p>{bars(rows, title, _files)}</div>'
        for title, rows in charts
    )
    return f'<div class="pair">{drawn}</div>'


def _files(count: int) -> str:
    return f"{count:,} file{'s' * (count != 1)}"


def _findings(report: DedupReport) -> str:
    if not report.health:
        return '<p class="soft">Nothing to mend.</p>'
    rows = [
        f'<tr><td class="text">{escape(a.finding)}</td><td class="text"><code>{escape(a.command)}</code></td></tr>'
        for a in report.health
    ]
    head = '<thead><tr><th scope="col">Finding</th><th scope="col" class="text">Mended by</th></tr></thead>'
    return f'<div class="scroll"><table>{head}<tbody>{"".join(rows)}</tbody></table></div>'


def _tiles(report: DedupReport) -> list[str]:
    decoded, flat = report.factors[-1], report.factors[-2]
    tiles = [
        _factor_tile(decoded, "bytes decoded, against"),
        _factor_tile(flat, "bytes on disk, against flat rows"),
        (f"{report.fan_out.mean:.1f}", "candidates per request, the mean fan-out"),
        (size(report.layout("requests").file_bytes), "on disk, the whole request table"),
    ]
    return [
        f'<div class="tile{" strong" * (i == 0)}" role="listitem">'
        f"<b>{escape(value)}</b><span>{escape(told)}</span></div>"
        for i, (value, told) in enumerate(tiles)
    ]


def _factor_tile(factor: Factor, told: str) -> tuple[str, str]:
    value, _, direction = change(factor.value).partition(" ")
    return value, f"{direction} {told} {factor.baseline[0].lower()}{factor.baseline[1:]}"


def _factor_rows(report: DedupReport) -> list[str]:
    rows = []
    for f in report.factors:
        best = ' class="best"' * (f.value >= 1)
        named = f'<td>{escape(f.quantity)}</td><td class="kind">{escape(f.baseline)}</td>'
        sizes = f"<td>{size(f.baseline_bytes)}</td><td>{size(f.of_bytes)}</td>"
        rows.append(f"<tr>{named}{sizes}<td{best}>{change(f.value)}</td></tr>")
    return rows


def _column_rows(report: DedupReport) -> list[str]:
    rows = []
    largest = max((_fewer(c.decoded_flat, c.decoded_requests) for c in report.columns), default=1) or 1
    for c in report.columns:
        tag = '<span class="tag">sensitive</span>' if c.sensitive else ""
        sizes = (c.raw, c.time_order, c.flat_sorted, c.requests, c.decoded_flat, c.decoded_requests)
        cells = "".join(f"<td>{size(s) if s else '–'}</td>" for s in sizes)
        fewer = _fewer(c.decoded_flat, c.decoded_requests)
        bar = f'<span class="bar" style="width:{fewer / largest * 82:.0f}px"></span>' if fewer > 1 else ""
        rows.append(
            f'<tr><td>{escape(c.name)}{tag}</td><td class="kind">{escape(c.kind)}</td>{cells}'
            f'<td>{change(fewer)}<span class="track">{bar}</span></td></tr>'
        )
    return rows


def _fewer(flat: int, requests: int) -> float:
    return flat / requests if requests else 0.0


def _distribution(title: str, found: Distribution, unit: str) -> str:
    figures = f"Mean {found.mean:.1f}, median {found.median:,}, 90 % at most {found.p90:,}, 99 % at most {found.p99:,}."
    return f'<section><h2>{escape(title)}</h2><p class="soft">{figures}</p>{histogram(found, title, unit)}</section>'
