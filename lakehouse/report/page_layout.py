"""Layout advice and yearly cost as sections of the page."""

from __future__ import annotations

from html import escape

from lakehouse.report.cost import Costs
from lakehouse.report.trials import ColumnTrial, LayoutAdvice, Trial
from lakehouse.report.units import milliseconds, money, size

TRACK = 82
"""Pixels of the longest bar in a cell."""
ENCODINGS = ("plain", "dictionary", "byte stream split")


def layout_section(found: LayoutAdvice | None) -> str:
    """Every trial with bars, the encodings column by column, and what follows; nothing without trials."""
    if found is None or not found.trials:
        return ""
    told = (
        f"{found.sample_rows:,} of {found.rows:,} requests ({size(found.sample_bytes)} decoded), in the order in "
        f"which they lie, written again with one thing changed. Decode times are the least of three, on one core."
    )
    advice = "".join(
        f'<tr><td>{escape(r.subject)}</td><td class="text">{escape(r.advice)}</td>'
        f'<td class="text"><code>{escape(r.command)}</code></td></tr>'
        for r in found.recommendations
    )
    trials = "".join(_trial(t, found.trials) for t in found.trials)
    columns = "".join(_column(c) for c in found.columns)
    heads = "".join(f'<th scope="col">{name}</th>' for name in ENCODINGS)
    return (
        f'<section aria-labelledby="layout"><h2 id="layout">Layout advice, from a sample</h2>'
        f'<p class="soft">{escape(told)}</p>'
        f'<div class="scroll"><table><thead><tr><th scope="col">Of</th><th scope="col" class="text">Advice</th>'
        f'<th scope="col" class="text">Done by</th></tr></thead><tbody>{advice}</tbody></table></div>'
        f'<h3>Alternatives</h3><div class="scroll"><table><thead><tr><th scope="col">Changed</th>'
        f'<th scope="col" class="kind">To</th><th scope="col">On disk<span class="track"></span></th>'
        f'<th scope="col">Decode<span class="track"></span></th><th scope="col">Write</th></tr></thead>'
        f"<tbody>{trials}</tbody></table></div>"
        f'<h3>Encodings, column by column</h3><div class="scroll"><table><thead><tr><th scope="col">Column</th>{heads}'
        f"</tr></thead><tbody>{columns}</tbody></table></div></section>"
    )


def _trial(t: Trial, trials: tuple[Trial, ...]) -> str:
    most, longest = max(x.file_bytes for x in trials), max(x.decode_s for x in trials)
    return (
        f'<tr><td>{escape(t.what)}</td><td class="kind">{escape(t.name)}{" (as now)" * (t.now and t is not trials[0])}'
        f"</td><td>{size(t.file_bytes)}{_bar(t.file_bytes / most)}</td>"
        f"<td>{milliseconds(t.decode_s)}{_bar(t.decode_s / longest)}</td><td>{milliseconds(t.write_s)}</td></tr>"
    )


def _bar(share: float) -> str:
    return f'<span class="track"><span class="bar" style="width:{share * TRACK:.0f}px"></span></span>'


def _column(c: ColumnTrial) -> str:
    tried = {name: (count, seconds) for name, count, seconds in c.encodings}
    cells = "".join(
        f"<td{' class=best' * (name == c.best)}>{size(tried[name][0])}, {milliseconds(tried[name][1])}</td>"
        if name in tried
        else "<td>–</td>"
        for name in ENCODINGS
    )
    return f"<tr><td>{escape(c.name)}</td>{cells}</tr>"


def cost_section(costs: Costs | None) -> str:
    """A year at the given prices, and the formula; nothing without prices."""
    if costs is None:
        return ""
    rows = "".join(
        f"<tr><td>{escape(row.label)}</td><td>{size(row.file_bytes)}</td><td>{milliseconds(row.decode_core_s)}</td>"
        f"<td>{money(row.storage)}</td><td>{money(row.reading)}</td><td>{money(row.together)}</td></tr>"
        for row in costs.rows
    )
    names = ("Layout", "On disk", "Core time to decode", "Storage", "Reading", "Together")
    heads = "".join(f'<th scope="col">{name}</th>' for name in names)
    prices = ", ".join(
        f"{name.replace('_', ' ')} {value:g}" for name, value in costs.prices.items() if value is not None
    )
    return (
        f'<section aria-labelledby="cost"><h2 id="cost">A year at the given prices</h2>'
        f'<p class="soft">{escape(costs.formula)}. Given: {escape(prices)}.</p>'
        f'<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div></section>'
    )
