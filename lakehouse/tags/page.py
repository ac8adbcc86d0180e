"""The comparison of two training sets as one HTML page that needs nothing beside it."""

from __future__ import annotations

from html import escape
from pathlib import Path

from lakehouse.pages import fill_page, write_page
from lakehouse.tags.diff import TagDiff
from lakehouse.tags.drift import Drift

WIDTH, HEIGHT, BASE = 360, 92, 70


def write_diff_page(diff: TagDiff, path: str | Path) -> Path:
    """Write the page; a reader sees the old one or the new one. Returns the path."""
    return write_page(render(diff), path)


def render(diff: TagDiff) -> str:
    """The page's text. Values of sensitive features are left out."""
    tiles = [
        (diff.after.requests, f"requests in {diff.after.name}"),
        (diff.requests.added, "added"),
        (diff.requests.removed, "removed"),
        (diff.requests.changed, "changed"),
    ]
    return fill_page(
        "lakehouse.tags",
        dataset=escape(diff.dataset),
        before=escape(diff.before.name),
        after=escape(diff.after.name),
        tiles="".join(f'<div class="tile"><b>{_count(n)}</b><span>{escape(t)}</span></div>' for n, t in tiles),
        labels="".join(
            f"<tr><td>{escape(r.label)}</td><td>{rate(r.before)}</td><td>{rate(r.after)}</td>"
            f"<td>{r.known[0]:,}</td><td>{r.known[1]:,}</td></tr>"
            for r in diff.labels
        ),
        drift="".join(_row(d, masked=d.column in diff.sensitive) for d in diff.drift),
        share=f"{diff.share:.0%}",
    )


def rate(value: float | None) -> str:
    """A label's mean, `–` where nothing is known."""
    return "–" if value is None else f"{value:.4f}"


def _count(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def _row(drift: Drift, *, masked: bool) -> str:
    kind = drift.verdict.replace(" ", "-")
    chart = "<span class='soft'>sensitive: values are not shown</span>" if masked else _bins(drift)
    part = " (length)" if drift.part == "length" else ""
    return (
        f'<tr><td>{escape(drift.column)}{part}</td><td>{drift.psi:.3f}</td><td class="{kind}">{drift.verdict}</td>'
        f'<td class="chart">{chart}</td></tr>'
    )


def _bins(drift: Drift) -> str:
    most = max((max(p, q) for _, p, q in drift.bins), default=0) or 1
    step = WIDTH / max(len(drift.bins), 1)
    parts = [f'<line class="axis" x1="0" x2="{WIDTH}" y1="{BASE}" y2="{BASE}"/>']
    for i, (name, p, q) in enumerate(drift.bins):
        for j, (kind, value) in enumerate((("before", p), ("after", q))):
            tall = value / most * (BASE - 6)
            x = i * step + 1 + j * (step - 2) / 2
            parts.append(
                f'<rect class="{kind}" x="{x:.1f}" y="{BASE - tall:.1f}" width="{max((step - 4) / 2, 1):.1f}" '
                f'height="{tall:.1f}"><title>{escape(name)}: {value:.1%}</title></rect>'
            )
    names = [drift.bins[0][0], drift.bins[-1][0]] if len(drift.bins) > 1 else [b[0] for b in drift.bins]
    places = [('x="0"', 0), (f'x="{WIDTH}" text-anchor="end"', 1)]
    for name, (place, _) in zip(names, places, strict=False):
        parts.append(f'<text {place} y="{HEIGHT - 6}">{escape(name[:24])}</text>')
    parts.append(f'<text x="{WIDTH / 2}" text-anchor="middle" y="{HEIGHT - 6}">highest bar {most:.0%}</text>')
    told = "; ".join(f"{n}: {p:.1%} to {q:.1%}" for n, p, q in drift.bins)
    return (
        f'<svg role="img" aria-label="{escape(told, quote=True)}" viewBox="0 0 {WIDTH} {HEIGHT}">{"".join(parts)}</svg>'
    )
