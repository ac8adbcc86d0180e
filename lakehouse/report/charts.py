"""Charts as inline SVG: no script, no file beside the page; colours come from the page's style."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

from lakehouse.report.distribution import Distribution
from lakehouse.report.units import size

WIDTH, ROW = 460, 50


def bars(rows: list[tuple[str, str, int]], title: str, shown: Callable[[int], str] = size) -> str:
    """Horizontal bars, of bytes by default: (class, label, value), label above each bar, value behind it."""
    largest = max((value for _, _, value in rows), default=0) or 1
    room = WIDTH - 84
    parts = []
    for i, (kind, label, value) in enumerate(rows):
        y, length = i * ROW, max(2.0, value / largest * room)
        parts += [
            f'<text x="0" y="{y + 14}">{escape(label)}</text>',
            f'<rect class="b-{kind}" x="0" y="{y + 21}" width="{length:.1f}" height="15" rx="3"/>',
            f'<text x="{length + 8:.1f}" y="{y + 33}">{shown(value)}</text>',
        ]
    told = "; ".join(f"{label} {shown(value)}" for _, label, value in rows)
    return _svg(parts, WIDTH, len(rows) * ROW - 8, title, told)


def histogram(found: Distribution, title: str, unit: str) -> str:
    """Vertical bars of how many requests have each length."""
    height, base = 150, 130
    most = max((b.count for b in found.bins), default=0) or 1
    step = WIDTH / max(len(found.bins), 1)
    parts = [f'<line class="axis" x1="0" x2="{WIDTH}" y1="{base}" y2="{base}"/>']
    for i, b in enumerate(found.bins):
        tall = b.count / most * (base - 22)
        if b.count:
            tall = max(tall, 1.5)
        span = f"{b.low}" if b.low == b.high else f"{b.low} to {b.high}"
        parts.append(
            f'<rect class="b-requests" x="{i * step + 1:.1f}" y="{base - tall:.1f}" width="{max(step - 2, 1):.1f}" '
            f'height="{tall:.1f}" rx="2"><title>{span} {escape(unit)}: {b.count:,} requests</title></rect>'
        )
    parts += [
        f'<text class="small" x="0" y="{height - 2}">{found.minimum:,}</text>',
        f'<text class="small" x="{WIDTH}" y="{height - 2}" text-anchor="end">{found.maximum:,} {escape(unit)}</text>',
        f'<text class="small" x="0" y="12">most in one bar: {most:,} requests</text>',
    ]
    told = f"mean {found.mean:.1f}, median {found.median}, 99 % {found.p99}, most {found.maximum} {unit}"
    return _svg(parts, WIDTH, height, title, told)


def _svg(parts: list[str], width: int, height: int, title: str, told: str) -> str:
    name = escape(f"{title}: {told}", quote=True)
    return f'<svg role="img" aria-label="{name}" viewBox="0 0 {width} {height}">{"".join(parts)}</svg>'
