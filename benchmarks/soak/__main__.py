"""`python -m benchmarks.soak [--minutes 30] [--kills 200] [--stack] [--quick] [--out FILE]`; 1 for any mismatch."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from benchmarks.report import arguments, machine, publish
from benchmarks.soak import __doc__ as what
from benchmarks.soak.data import Model
from benchmarks.soak.pool import with_archive
from benchmarks.soak.rounds import Soak
from benchmarks.soak.worker import Job
from lakehouse.settings import Settings, load_settings
from lakehouse.stack.control import running_stack
from tests.support.quick import MASTER, QUICK


def more(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--minutes", type=float, help="after which nothing more is killed, by default 30 (quick: 1)")
    parser.add_argument("--kills", type=int, default=200, help="after which nothing more is killed")
    parser.add_argument("--stack", action="store_true", help="on Postgres and S3 in place of the embedded default")
    parser.add_argument("--seed", type=int, help="of what is drawn, by default another one each time")


def lake(folder: Path, stack: ExitStack, *, on_stack: bool) -> Settings:
    """Settings of a small session; what is left behind expires after two minutes, and two small files are too many."""
    given = {}
    if on_stack:
        given = stack.enter_context(running_stack(folder / "stack", ("postgres", "s3"))).settings(("postgres", "s3"))
    return load_settings(
        home=folder / "lake",
        spark={"master": MASTER, "driver_memory": "1g", "shuffle_partitions": 2, "conf": QUICK},
        ingest={"max_bad_share": 1.0},
        maintenance={"keep_days": 120 / 86400, "small_files": 2},
        **given,
    )


def rehearsal(folder: Path) -> list[Job]:
    """One job of each kind, undisturbed, for the class archive."""
    model = Model(-1, folder)
    rows, late, told, _ = model.cohort(0)
    model.add(rows, told)
    users = sorted(model.rows)
    return [
        Job("ingest", "a", model.write_log("a", rows)),
        Job("labels", "b", model.write_labels("b", told)),
        Job("ingest", "c", model.write_log("c", late)),
        Job("compact", "d"),
        Job("maintain", "m"),
        Job("backfill", "e", model.write_source("e", users[:2], 1)),
        Job("erase", "f", users[-1]),
        Job("rebucket", "g", 3),
    ]


def main() -> int:
    """Run, print, write."""
    given = arguments("soak_stack" if "--stack" in sys.argv else "soak", what or "", more)
    minutes = given.minutes or (1 if given.quick else 30)
    seed = given.seed if given.seed is not None else random.randrange(1 << 30)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="reqlake-soak-") as place, ExitStack() as stack:
        folder = Path(place)
        for name in ("raw", "workers", "rehearsal"):
            (folder / name).mkdir()
        settings = lake(folder, stack, on_stack=given.stack)
        settings = with_archive(settings, folder, rehearsal(folder / "rehearsal"))
        print(f"seed {seed}; warm after {time.monotonic() - began:.0f} s", flush=True)
        soak = Soak(settings, folder, seed, time.monotonic() + minutes * 60, 6 if given.quick else given.kills)
        soak.run()
        epochs = soak.epochs()
    for problem in (*soak.failures, *soak.wrong):
        print(f"WRONG: {problem}", file=sys.stderr)
    steps = Counter((kill.kind, kill.step, kill.state) for kill in soak.kills)
    kinds = sorted({kill.kind for kill in soak.kills} | {kind for kind, _ in soak.runs})
    by_kind = Counter(kill.kind for kill in soak.kills)
    rows = [
        {"job": kind, "killed": by_kind[kind], "done": soak.runs[kind, "done"], "busy": soak.runs[kind, "busy"]}
        for kind in kinds
    ] + [
        {"job": kind, "killed": count, "step": step, "left": state}
        for (kind, step, state), count in sorted(steps.items())
    ]
    publish(
        "soak",
        machine=machine("pyspark", "pyarrow", "pyiceberg"),
        settings={"minutes": minutes, "seed": seed, "lake": "Postgres and S3" if given.stack else "SQLite and files"},
        rows=rows,
        ratios={
            "kills": len(soak.kills),
            "rounds": soak.rounds,
            "mismatches": len(soak.wrong),
            "failures": len(soak.failures),
            "seconds": time.monotonic() - began,
            **{f"epochs: {name}": count for name, count in sorted(epochs.items())},
        },
        out=given.out,
    )
    return 1 if soak.wrong or soak.failures else 0


if __name__ == "__main__":
    sys.exit(main())
