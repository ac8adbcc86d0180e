"""Ingest against sorting and writing the flat rows (the published way) and against a bare scan, side by side.

One warm session, one input, interleaved rounds, medians. `ingest_s` is everything from raw files to the audit branch's
commit (both passes, judging, conflict counts, quarantine, writing), as the flat write goes from raw files to a commit;
opening the table, the suite, publishing and the ledger are told apart as `around_s`.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

from benchmarks.report import arguments, machine, publish
from benchmarks.synthetic import Shape, long_history_spec, write_raw
from lakehouse.schema import table_properties
from lakehouse.settings import Settings, load_settings
from spark_jobs.ingest import run
from spark_jobs.session import build_session

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

AROUND = ("look", "prepare", "audit", "publish", "ledger")
Order = Literal["time", "random"]


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
    report = run(spark, settings, spec, [raw])
    for kind in ("requests", "ledger", "quarantine"):
        spark.sql(f"DROP TABLE IF EXISTS {settings.catalog.in_spark}.{spec.table(kind)} PURGE")
    around = sum(report.seconds.get(step, 0.0) for step in AROUND)
    return sum(report.seconds.values()) - around, around


def measure(spark: SparkSession, settings: Settings, shape: Shape, order: Order, rounds: int) -> dict[str, Any]:
    """Medians of one input."""
    raw = str(settings.home / "raw" / order)
    shutil.rmtree(raw, ignore_errors=True)
    size = sum(path.stat().st_size for path in write_raw(Path(raw), shape, order))
    spark.sql("CREATE NAMESPACE IF NOT EXISTS lake.bench")
    unchecked = settings.model_copy(update={"ingest": settings.ingest.model_copy(update={"check_conflicts": False})})
    layout = table_properties(long_history_spec("flat"))
    properties = {k: v for k, v in layout.items() if k.startswith("write.parquet.")}
    ways: dict[str, Callable[[int], float | tuple[float, float]]] = {
        "scan": lambda _: scan(spark, raw),
        "flat_write": lambda i: flat_write(spark, raw, f"lake.bench.flat_{order}_{i}", properties),
        "ingest": lambda i: ingest(spark, settings, raw, f"{order}_{i}"),
        "unchecked": lambda i: ingest(spark, unchecked, raw, f"{order}_unchecked_{i}"),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    around: list[float] = []
    for i in range(rounds + 1):
        for name, way in ways.items():
            seconds = way(i)
            print(f"{order} {shape.conflicts} round {i} {name}: {seconds}", file=sys.stderr)
            if i == 0:
                continue  # warms the JVM
            if isinstance(seconds, tuple):
                times[name].append(seconds[0])
                around += [seconds[1]] if name == "ingest" else []
            else:
                times[name].append(seconds)
    shutil.rmtree(raw)
    return {
        "order": order,
        "conflicts": shape.conflicts,
        "raw_rows": shape.requests * shape.fanout,
        "raw_mb": size / 1e6,
        **{f"{name}_s": median(values) for name, values in times.items()},
        "around_s": median(around),
        "rounds": {name: [round(v, 3) for v in values] for name, values in times.items()},
    }


def main() -> None:
    """Run, print, write."""
    given = arguments("ingest", __doc__ or "")
    shape = Shape(requests=200, history=64) if given.quick else Shape(requests=1200)
    rounds = 1 if given.quick else 2
    home = Path(tempfile.mkdtemp(prefix="reqlake-bench-"))
    rows = []
    try:
        settings = load_settings(home=home, ingest={"max_bad_share": 1.0})
        spark = build_session(settings)
        inputs: tuple[tuple[Order, float], ...] = (("time", 0.0), ("random", 0.0), ("random", 0.02))
        for order, conflicts in inputs:
            part = Shape(**{**vars(shape), "conflicts": conflicts})
            rows.append(measure(spark, settings, part, order, rounds))
    finally:
        shutil.rmtree(home, ignore_errors=True)
    clean = [row for row in rows if not row["conflicts"]]
    worst = {
        "flat_write_over_ingest": min(r["flat_write_s"] / r["ingest_s"] for r in clean),
        "flat_write_over_ingest_unchecked": min(r["flat_write_s"] / r["unchecked_s"] for r in clean),
        "ingest_over_scan": max(r["ingest_s"] / r["scan_s"] for r in clean),
    }
    each = {
        f"flat_write_over_ingest_{r['order']}{'_conflicts' if r['conflicts'] else ''}": r["flat_write_s"]
        / r["ingest_s"]
        for r in rows
    }
    shown = [{k: v for k, v in row.items() if k != "rounds"} for row in rows]
    publish(
        "ingest",
        machine=machine("pyspark", "pyarrow", "pyiceberg", "great-expectations"),
        settings={"shape": vars(shape), "rounds": rounds, "each_round": [row["rounds"] for row in rows]},
        rows=shown,
        ratios=worst | each,
        out=given.out,
    )


if __name__ == "__main__":
    main()
