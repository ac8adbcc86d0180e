"""The suite's results as one HTML page that needs nothing beside it: this validation, and those of the batches before.

It names columns and counts, and no value and no key of a row, so that it may lie where people read it.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from lakehouse.pages import fill_page, write_page
from lakehouse.quality.results import BatchResults, Result, by_batch
from lakehouse.quality.suite import ValidationReport
from lakehouse.quality.volume import NULLS
from lakehouse.spec import DatasetSpec

BATCHES = 40


def write_quality_page(
    path: str | Path, spec: DatasetSpec, report: ValidationReport, results: Sequence[Result]
) -> Path:
    """Write the page; a reader sees the old one or the new one. Returns the path."""
    return write_page(render(spec, report, results), path)


def render(spec: DatasetSpec, report: ValidationReport, results: Sequence[Result]) -> str:
    """The page's text."""
    batches = [b for b in by_batch(results) if b.scope == "batch"][-BATCHES:]
    failed = [r for r in report.results if not r.passed]
    tiles = [
        (f"{report.rows:,}", "requests looked at"),
        (f"{len(report.results) - len(failed)} of {len(report.results)}", "expectations hold"),
        (f"{len(batches)}", "batches of the last 90 days" if len(batches) < BATCHES else "last batches"),
    ]
    return fill_page(
        "lakehouse.quality",
        dataset=escape(f"{spec.namespace}.{spec.name}"),
        table=escape(report.table),
        doc=escape(spec.doc),
        tiles="".join(f'<div class="tile"><b>{n}</b><span>{escape(says)}</span></div>' for n, says in tiles),
        rules="".join(
            f'<tr><td class="{"good" if r.passed else "bad"}">{"holds" if r.passed else "broken"}</td>'
            f"<td class='left'><code>{escape(r.rule)}</code></td><td class='left'>{escape(r.says)}</td>"
            f"<td>{r.broken or ''}</td></tr>"
            for r in sorted(report.results, key=lambda r: r.passed)
        ),
        batches="".join(_batch(b, max((x.rows for x in batches), default=1)) for b in reversed(batches))
        or '<tr><td colspan="4">No batch was kept in these days.</td></tr>',
    )


def _batch(batch: BatchResults, most: int) -> str:
    width = round(100 * batch.rows / max(most, 1), 1)
    told = [f"<code>{escape(r.expectation)}</code>: {r.observed:,.0f}" for r in batch.failed]
    for odd in batch.odd:
        shown = f"{odd.observed:.1%}" if odd.expectation.startswith(NULLS) else f"{odd.observed:,.0f}"
        told.append(f"<code>{escape(odd.expectation)}</code>: {shown}")
    mark = "bad" if batch.failed else "odd" if batch.odd else "good"
    return (
        f"<tr><td>{batch.at:%Y-%m-%d %H:%M}</td><td class='left'><code>{escape(batch.batch_id[:12])}</code></td>"
        f'<td class="bar"><i style="width:{width}%"></i><span>{batch.rows:,}</span></td>'
        f'<td class="left {mark}">{"; ".join(told) or "all hold"}</td></tr>'
    )
