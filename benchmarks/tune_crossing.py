"""Times candidate tiles of each problem class on this card: `python -m benchmarks.tune_crossing [--out FILE]`.

Prints, for each class and kernel, the best tiles first: what `training/ops/kernels/tiles.py` is written from.
Compiles in parallel first (`--workers`), since a tile takes seconds to compile and milliseconds to time.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks.crossing.problem import Problem, clock, error
from training.ops.kernels.crossing_launch import Problem as Launch
from training.ops.kernels.crossing_launch import backward, forward
from training.ops.kernels.tiles import Tile, Tiles

# each H, D, R, N, L
CLASSES = {
    "D64 N512 L1024": (8, 64, 16, 512, 1024),
    "D64 N1024 L4096": (8, 64, 16, 1024, 4096),
    "D128 N512 L1024": (8, 128, 16, 512, 1024),
    "D128 N1024 L4096": (8, 128, 16, 1024, 4096),
    "D64 N128 L512": (8, 64, 64, 128, 512),
    "D64 N64 L512": (8, 64, 64, 64, 512),
    "D64 N24 L512": (8, 64, 64, 24, 512),
    "D64 N16 L512": (8, 64, 256, 16, 512),
    "D128 N128 L512": (8, 128, 64, 128, 512),
    "D128 N24 L512": (8, 128, 64, 24, 512),
    "D128 N16 L512": (8, 128, 256, 16, 512),
    "D32 N512 L1024": (8, 32, 16, 512, 1024),
    "D32 N16 L512": (8, 32, 256, 16, 512),
    "D256 N512 L1024": (4, 256, 16, 512, 1024),
}


# rows x columns, warps, stages; each is tried with and without tensor descriptors
WIDE_FORWARD = ["64x64 4 3", "64x64 4 4", "64x128 4 2", "64x128 4 3", "128x64 4 3", "128x64 8 3", "128x64 8 4"]
WIDE_FORWARD += ["128x128 8 2", "128x128 8 3", "128x32 4 4"]
WIDER_FORWARD = ["32x64 4 2", "64x32 4 2", "64x32 4 3", "64x32 8 3", "64x64 4 2", "64x64 8 2", "128x64 8 2"]
ROWS = ["64x64 4 2", "64x64 4 3", "64x32 4 3", "128x32 4 3", "128x32 8 3", "128x64 8 2", "128x64 8 3"]
COLUMNS = ["32x64 4 2", "32x64 4 3", "64x64 4 2", "64x64 4 3", "64x64 8 2", "32x128 8 3", "64x128 8 2", "64x128 8 3"]
NARROW = ["x32 1 3", "x64 1 2", "x64 1 3", "x64 2 2", "x64 2 3", "x128 2 2", "x128 4 2", "x64 4 3"]
NARROW_ONE = ["x32 1 3", "x32 2 2", "x32 2 3", "x64 1 2", "x64 2 2", "x64 4 2", "x32 4 3", "x16 1 3"]
ONE = ["x16 4 3", "x32 4 2", "x32 4 3", "x32 8 3", "x64 4 2", "x64 8 2", "x64 8 3"]


def candidates(D: int, N: int) -> dict[str, list[Tile]]:
    """Tiles worth a try for each kernel."""
    height = max(16, 1 << (N - 1).bit_length())
    if N <= 32:
        return {"forward": tiles(NARROW, height), "one": tiles(NARROW_ONE, height)}
    forward = tiles(WIDER_FORWARD if D == 256 else WIDE_FORWARD)
    if N <= 128:
        return {"forward": [t for t in forward if t.rows <= height], "one": tiles(ONE, height)}
    return {"forward": forward, "row_pass": tiles(ROWS), "column_pass": tiles(COLUMNS)}


def tiles(names: list[str], height: int | str = "") -> list[Tile]:
    """Tiles of their names, each twice."""
    parsed = [[int(x) for x in f"{height}{name}".replace("x", " ").split()] for name in names]
    return [Tile(*x, tma=tma) for x in parsed for tma in (False, True)]


def jobs(names: list[str]) -> list[tuple[str, str, Tile]]:
    """(class, kernel, tile) of every trial."""
    return [
        (name, kernel, tile)
        for name in names
        for kernel, tiles_of in candidates(CLASSES[name][1], CLASSES[name][3]).items()
        for tile in tiles_of
    ]


def trial(problem: Problem, kernel: str, tile: Tile) -> Any:
    """A callable that runs one kernel with one tile; for a pass of the backward, with the table's other pass."""
    *inputs, grad = problem.tensors
    plan = problem.plan
    launch = Launch(plan.layout, plan.sizes, problem.D**-0.5)
    small = Tile(16, 32, 4, 1)
    if kernel == "forward":
        chosen = Tiles(tile, None, tile, tile)
        return lambda: forward(inputs[0], tuple(inputs[1:3]), tuple(inputs[3:]), launch, tiles=chosen)[:1]
    out, lse = forward(inputs[0], tuple(inputs[1:3]), tuple(inputs[3:]), launch)
    chosen = {
        "one": Tiles(tile, tile, tile, small),
        "row_pass": Tiles(tile, None, tile, small),
        "column_pass": Tiles(tile, None, small, tile),
    }[kernel]
    return lambda: backward(grad, None, tuple(inputs), out, lse, launch, chosen)


def warm(share: int, workers: int, names: list[str]) -> None:
    """Compile this worker's share into Triton's cache, on problems of one request."""
    for name, kernel, tile in jobs(names)[share::workers]:
        H, D, _, N, _ = CLASSES[name]
        try:
            trial(Problem(H, D, [N], [200]), kernel, tile)()
        except Exception as failure:  # noqa: BLE001 - a tile that does not fit is a result
            print("warm", name, kernel, tile, str(failure)[:80], flush=True)


def main() -> None:
    """Warm, time, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/tune_crossing.json"))
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--classes", nargs="*", default=list(CLASSES))
    parser.add_argument("--share", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.share is not None:
        warm(options.share, options.workers, options.classes)
        return
    command = [sys.executable, "-m", "benchmarks.tune_crossing", "--workers", str(options.workers)]
    command += ["--classes", *options.classes]
    workers = [subprocess.Popen([*command, "--share", str(i)]) for i in range(options.workers)]
    for worker in workers:
        worker.wait()
    rows = []
    for name in options.classes:
        problem = Problem.of(CLASSES[name], "equal")
        timed: dict[str, list[tuple[float, Tile, float]]] = {}
        for _, kernel, tile in jobs([name]):
            try:
                fn = trial(problem, kernel, tile)
                wrong = max(
                    error(x, y) for x, y in zip(fn(), problem.answer[0 if kernel == "forward" else 1 :], strict=False)
                )
                timed.setdefault(kernel, []).append((clock(fn, 15), tile, wrong))
            except Exception as failure:
                print("no", name, kernel, tile, str(failure)[:60].replace("\n", " "), flush=True)
                if "illegal" in str(failure):
                    raise
        for kernel, results in timed.items():
            results.sort(key=lambda x: x[0])
            best = [
                f"{ms * 1e3:.0f}us {t.rows}x{t.columns} w{t.warps} s{t.stages}{' tma' * t.tma}"
                for ms, t, _ in results[:5]
            ]
            print(name, kernel, "|", " | ".join(best), f"| error {max(e for *_, e in results):.1e}", flush=True)
            rows += [{"class": name, "kernel": kernel, "ms": ms, "error": e, **vars(t)} for ms, t, e in results]
        del problem
        torch.cuda.empty_cache()
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps({"card": torch.cuda.get_device_name(), "rows": rows}))


if __name__ == "__main__":
    main()
