"""Draws the results: `python -m benchmarks.crossing.plot [RESULT] [FOLDER]`, a roofline and the tile map of the docs.

Needs matplotlib; everything on the roofline comes from the result's rows and its two measured ceilings.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.patches import Rectangle

COLOURS = {"ours": "#0072B2", "flash + merge": "#D55E00", "cuDNN without self": "#999999", "FlexAttention": "#009E73"}
MARKS = {"equal": "o", "ragged": "^"}


def roofline(result: dict[str, Any], path: Path) -> None:
    """Forward TFLOP/s of every form over the FLOP a byte of least traffic."""
    figure, axes = plt.subplots(figsize=(7, 4.5))
    ours = {(*r["shape"], r["kind"]): r for r in result["rows"] if r.get("form") == "ours" and r["part"] == "kernels"}
    for row in result["rows"]:
        if row["part"] != "kernels" or row["form"] not in COLOURS or "failed" in row:
            continue
        own = ours[*row["shape"], row["kind"]]
        intensity = own["forward_tflops"] / own["forward_gbs"] * 1e3
        colour = COLOURS[row["form"]]
        axes.scatter(intensity, row["forward_tflops"], color=colour, marker=MARKS[row["kind"]], s=36)
    machine = result["machine"]
    matmul, copy = machine["matmul TFLOP/s"], machine.get("copy GB/s")
    axes.axhline(matmul, color="black", linewidth=1)
    if copy:
        xs = [8, matmul * 1e3 / copy]
        axes.plot(xs, [x * copy / 1e3 for x in xs], color="black", linewidth=1)
    axes.set(xscale="log", yscale="log", xlabel="FLOP / byte", ylabel="TFLOP/s, forward", title=machine["card"])
    handles = [plt.Line2D([], [], color=c, marker="s", linestyle="", label=n) for n, c in COLOURS.items()]
    handles += [plt.Line2D([], [], color="black", marker=m, linestyle="", label=n) for n, m in MARKS.items()]
    axes.legend(handles=handles, fontsize=8)
    figure.savefig(path / "crossing_roofline.svg", bbox_inches="tight", metadata={"Date": None})


def tile_map(path: Path) -> None:
    """Three requests, their candidates (rows) against their histories (columns), cut into programs."""
    figure, axes = plt.subplots(figsize=(7, 3.6))
    lengths, counts, top, left = (14, 6, 3), (5, 3, 7), 0, 0
    program = 0
    for r, (length, count) in enumerate(zip(lengths, counts, strict=True)):
        for first in range(0, count, 4):
            rows = min(4, count - first)
            y = top + first
            axes.add_patch(Rectangle((left, y), length, rows, facecolor=f"C{r}", alpha=0.25, edgecolor="none"))
            for n in range(0, length, 4):
                width = min(4, length - n)
                axes.add_patch(Rectangle((left + n, y), width, rows, fill=False, edgecolor=f"C{r}", linewidth=0.8))
            axes.add_patch(Rectangle((24.5, y), 1, rows, facecolor=f"C{r}", alpha=0.7))
            axes.text(26, y + rows / 2, f"program {program}: request {r}, row {first}", va="center", fontsize=8)
            program += 1
        top, left = top + count, left + length
    axes.set(xlim=(-0.5, 38), ylim=(top + 0.5, -1.6))
    axes.text(0, -0.6, "history tokens of all requests, packed", fontsize=8)
    axes.text(24, -0.6, "self token: seeds the softmax", fontsize=8)
    axes.set_ylabel("candidates of all requests, packed", fontsize=8)
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_visible(False)
    figure.savefig(path / "crossing_tiles.svg", bbox_inches="tight", metadata={"Date": None})


def main() -> None:
    """Both pictures."""
    arguments = [*sys.argv[1:], *["benchmarks/results/crossing_attention.json", "docs/images"][len(sys.argv) - 1 :]]
    result, folder = json.loads(Path(arguments[0]).read_text()), Path(arguments[1])
    folder.mkdir(parents=True, exist_ok=True)
    plt.rcParams["svg.hashsalt"] = "crossing"
    roofline(result, folder)
    tile_map(folder)


if __name__ == "__main__":
    main()
