"""Ingest against sorting and writing the flat rows (the published way) and against a bare scan, side by side.

One session, warmed on a small input of the same kind; interleaved rounds, medians. `ingest_s` is everything from raw
files to the audit branch's commit (finding out how the log is read, both passes, judging, conflict counts, quarantine,
writing), as the flat write goes from raw files to a commit; hashing the files, opening the table, the suite, publishing
and the ledger are told apart as `around_s`. An eighth of the input warms the JVM and is then measured too (`eighth_s`);
the driver's live heap is read after a collection, behind each size.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

from benchmarks.report import RESULTS, arguments, machine, publish
from benchmarks.synthetic import Shape, long_history_spec, write_raw
from lakehouse.schema import table_properties
from lakehouse.settings import Settings, load_settings
from spark_jobs.ingest import run
from spark_jobs.session import build_session

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

AROUND = ("look", "prepare", "audit", "publish", "ledger")
Order = Literal["time", "random"]
INPUTS: dict[str, tuple[Order, float]] = {
    "time": ("time", 0.0),
    "random": ("random", 0.0),
    "conflicts": ("random", 0.02),
}
# What is divided by what; told for the worse of the inputs without conflicts, and for each.
RATIOS: dict[str, tuple[str, str, Callable[[list[float]], float]]] = {
    "flat_write_over_ingest": ("flat_write_s", "ingest_s", min),
    "flat_write_over_ingest_unchecked": ("flat_write_s", "unchecked_s", min),
    "ingest_over_scan": ("ingest_s", "scan_s", max),
    "around_over_whole": ("around_s", "whole_s", max),
    "scaling_8x": ("ingest_s_per_row", "eighth_s_per_row", max),
    "memory_8x": ("heap_mb", "eighth_heap_mb", max),
}


def scan(spark: SparkSession, raw: str) -> float:
    """Read every column of every raw row, keep nothing."""
    started = time.perf_counter()
    spark.read.parquet(raw).write.format("noop").mode("overwrite").save()
    return time.perf_counter() - started


def flat_write(spark: SparkSession, raw: str, name: str, properties: dict[str, str]) -> float:
    """Sort the flat rows by user and request and write them, partitioned and laid out as the request table is."""
    frame = spark.read.parquet(raw)
    options = ", ".join(f"'{k}'='{v}'" for k, v in properties.items())
    columns = ", ".join(f"{f.name} {f.dataType.simpleString()}" for f in frame.schema)
    spark.sql(
        f"CREATE TABLE {name} ({columns}) USING iceberg PARTITIONED BY (bucket(4, user_id)) TBLPROPERTIES ({options})"
    )
    spark.sql(f"ALTER TABLE {name} WRITE DISTRIBUTED BY PARTITION LOCALLY ORDERED BY user_id, request_id")
    started = time.perf_counter()
    frame.writeTo(name).append()
    seconds = time.perf_counter() - started
    spark.sql(f"DROP TABLE {name} PURGE")
    return seconds


def ingest(spark: SparkSession, settings: Settings, raw: str, tag: str) -> tuple[float, float]:
    """Seconds of the ingest itself, and of what is around it."""
    spec = long_history_spec(f"synthetic_{tag}")
    started = time.perf_counter()
    report = run(spark, settings, spec, [raw])
    whole = time.perf_counter() - started
    print(f"{tag}: " + ", ".join(f"{k} {v:.2f}" for k, v in report.seconds.items()), file=sys.stderr)
    for kind in ("requests", "ledger", "quarantine"):
        spark.sql(f"DROP TABLE IF EXISTS {settings.catalog.in_spark}.{spec.table(kind)} PURGE")
    around = sum(report.seconds.get(step, 0.0) for step in AROUND)
    return whole - around, around


def live_heap(spark: SparkSession) -> float:
    """MB that the driver's JVM still holds after a collection."""
    jvm = spark.sparkContext._jvm  # noqa: SLF001 - the way to the JVM that PySpark has
    assert jvm is not None
    jvm.java.lang.System.gc()
    return float(jvm.java.lang.management.ManagementFactory.getMemoryMXBean().getHeapMemoryUsage().getUsed()) / 1e6


def measure(spark: SparkSession, settings: Settings, shape: Shape, order: Order, rounds: int) -> dict[str, Any]:
    """Medians of one input. Round 0 warms the JVM on an eighth of it, which is then measured."""
    raw, small = str(settings.home / "raw" / order), str(settings.home / "raw" / "small")
    small_shape = replace(shape, requests=max(1, shape.requests // 8))
    write_raw(Path(small), small_shape, order)
    size = sum(path.stat().st_size for path in write_raw(Path(raw), shape, order))
    spark.sql("CREATE NAMESPACE IF NOT EXISTS lake.bench")
    unchecked = settings.model_copy(update={"ingest": settings.ingest.model_copy(update={"check_conflicts": False})})
    layout = table_properties(long_history_spec("flat"))
    properties = {k: v for k, v in layout.items() if k.startswith("write.parquet.")}
    ways: dict[str, Callable[[str, int], float | tuple[float, float]]] = {
        "scan": lambda log, _: scan(spark, log),
        "flat_write": lambda log, i: flat_write(spark, log, f"lake.bench.flat_{order}_{i}", properties),
        "ingest": lambda log, i: ingest(spark, settings, log, f"{order}_{i}"),
        "unchecked": lambda log, i: ingest(spark, unchecked, log, f"{order}_unchecked_{i}"),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    around: list[float] = []
    told: dict[str, float] = {}
    for i in range(rounds + 1):
        if i == 1:
            eighth = ingest(spark, settings, small, f"{order}_eighth")[0]
            told = {
                "eighth_s": eighth,
                "eighth_s_per_row": eighth / small_shape.requests / shape.fanout,
                "eighth_heap_mb": live_heap(spark),
            }
        for name, way in ways.items():
            seconds = way(raw if i else small, i)
            print(f"{order} {shape.conflicts} round {i} {name}: {seconds}", file=sys.stderr)
            if i == 0:
                continue
            if isinstance(seconds, tuple):
                times[name].append(seconds[0])
                if name == "ingest":
                    around.append(seconds[1])
                    told["heap_mb"] = live_heap(spark)
            else:
                times[name].append(seconds)
    shutil.rmtree(settings.home / "raw")
    whole = median(times["ingest"]) + median(around)
    return {
        "order": order,
        "conflicts": shape.conflicts,
        "raw_rows": shape.requests * shape.fanout,
        "raw_mb": size / 1e6,
        **{f"{name}_s": median(values) for name, values in times.items()},
        "around_s": median(around),
        "whole_s": whole,
        "ingest_s_per_row": median(times["ingest"]) / shape.requests / shape.fanout,
        **told,
        "rounds": "; ".join(f"{name} {' '.join(f'{v:.2f}' for v in values)}" for name, values in times.items()),
    }


def inputs(add: argparse.ArgumentParser) -> None:
    """`--large` and `--only`."""
    add.add_argument("--large", action="store_true", help="520,000 rows, 10.6 GB decoded")
    add.add_argument("--only", choices=INPUTS, help="one input; the others' figures stay as the JSON has them")


def main() -> None:
    """Run, print, write."""
    given = arguments("ingest", __doc__ or "", inputs)
    shape = Shape(requests=200, history=64) if given.quick else Shape(requests=21_600 if given.large else 4800)
    if given.large and given.out == RESULTS / "ingest.json":
        given.out = RESULTS / "ingest-large.json"
    rounds = 1 if given.quick else 2
    settings_told = {"shape": vars(shape), "rounds": rounds}
    rows = _kept(given.out, settings_told) if given.only else {}
    home = Path(tempfile.mkdtemp(prefix="reqlake-bench-"))
    try:
        settings = load_settings(home=home, ingest={"max_bad_share": 1.0})
        spark = build_session(settings)
        for name in [given.only] if given.only else INPUTS:
            order, conflicts = INPUTS[name]
            rows[name] = {"input": name} | measure(spark, settings, replace(shape, conflicts=conflicts), order, rounds)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    ratios: dict[str, float] = {}
    for ratio, (over, under, pick) in RATIOS.items():
        each = {name: row[over] / row[under] for name, row in rows.items() if over in row}
        clean = [value for name, value in each.items() if not rows[name]["conflicts"]]
        ratios |= {ratio: pick(clean)} if clean else {}
        ratios |= {f"{ratio}_{name}": value for name, value in each.items()}
    publish(
        "ingest",
        machine=machine("pyspark", "pyarrow", "pyiceberg", "great-expectations"),
        settings=settings_told,
        rows=[rows[name] for name in INPUTS if name in rows],
        ratios=ratios,
        out=given.out,
    )


def _kept(out: Path | None, settings: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Rows of an earlier run with the same settings, by input."""
    if out is None or not out.exists():
        return {}
    earlier = json.loads(out.read_text(encoding="utf-8"))
    if earlier["settings"] != settings:
        return {}
    return {row["input"]: row for row in earlier["rows"]}


if __name__ == "__main__":
    main()
