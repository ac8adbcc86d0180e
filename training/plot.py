"""AUC of several models with their intervals, as a picture. matplotlib is asked for where a picture is wanted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lakehouse.errors import NotInstalledError
from training.bootstrap import Interval

INK, ACCENT, QUIET = "#1d2733", "#0b6e8a", "#9aa5b1"


def plot_auc(task: str, models: Sequence[tuple[str, float, Interval]], path: Path) -> None:
    """Write a PNG: one row a model, the first in colour. Raises NotInstalledError without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise NotInstalledError("matplotlib", "demo") from error
    figure = Figure(figsize=(7.5, 0.9 + 0.48 * len(models)), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for row, (name, auc, interval) in enumerate(reversed(models)):
        colour = ACCENT if name == models[0][0] else QUIET
        axes.plot([interval.low, interval.high], [row, row], color=colour, linewidth=3, solid_capstyle="round")
        axes.plot([auc], [row], marker="o", markersize=7, color=colour)
        axes.annotate(f"{auc:.3f}", (auc, row), xytext=(0, 7), textcoords="offset points", ha="center", color=INK)
    axes.set_yticks(range(len(models)), [name for name, _, _ in reversed(models)], color=INK)
    axes.set_ylim(-0.6, len(models) - 0.3)
    axes.set_xlabel(f"AUC of {task!r} on the latest requests, 95 % over users", color=INK)
    axes.tick_params(left=False)
    axes.grid(axis="x", color="#e6eaee")
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
