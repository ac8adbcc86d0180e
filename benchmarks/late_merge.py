"""A late batch that touches 1 % of the requests, against rewriting the table; deletes by position and copies of files.

One warm session, one table, interleaved rounds, medians. `merge` is a whole ingest of the late batch. `delete` takes
the touched rows out on a branch: by position deletes, or by writing their files anew; `write` puts them back, merged.
`read` is an epoch of the reader after the merge, and after the compaction that removes its deletes.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.report import arguments, machine, publish
from benchmarks.synthetic import Shape, SyntheticLog, long_history_spec, write_raw
from feature_reader import Reader
from lakehouse.catalog import open_catalog
from lakehouse.settings import Settings, load_settings
from spark_jobs import compact
from spark_jobs.ingest import run
from spark_jobs.merge import find_known
from spark_jobs.publish import DELETE_MODE
from spark_jobs.session import build_session

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from lakehouse.spec import DatasetSpec

MODES = ("merge-on-read", "copy-on-write")
SHARE = 0.01


def late_batch(log: SyntheticLog, users: np.ndarray, seed: int) -> pa.Table:
    """One more impression of 1 % of the log's requests, of the given users (a mask over all)."""
    requests = np.flatnonzero(users[log.user])
    chosen = np.random.default_rng(seed).choice(requests, int(SHARE * log.shape.requests), replace=False)
    table = log.table(np.sort(chosen) * log.shape.fanout)
    items = pc.add(table["item_id"], 100_000_000 + seed)
    return table.set_column(table.schema.get_field_index("item_id"), "item_id", items)


def one_bucket(spark: SparkSession, log: SyntheticLog, buckets: int) -> np.ndarray:
    """Users of the bucket that has most of them."""
    frame = spark.range(1, log.users + 1).selectExpr("id", f"lake.system.bucket({buckets}, id) AS b")
    found = np.array([row["b"] for row in frame.orderBy("id").collect()])
    return found == np.bincount(found).argmax()


def delete(spark: SparkSession, settings: Settings, spec: DatasetSpec, raw: str, mode: str) -> float:
    """Seconds to take the touched rows out, on a branch that is dropped."""
    table = open_catalog(settings).load_table(spec.table())
    snapshot, name = table.current_snapshot(), f"lake.{spec.table()}"
    if snapshot is None:
        raise ValueError("the table is empty")
    keys = spark.read.parquet(raw).select("user_id", "request_id", "request_ts")
    known = find_known(spark, spec, keys, name, snapshot.snapshot_id)
    if known is None:
        raise ValueError("no request is known")
    spark.sql(f"ALTER TABLE {name} SET TBLPROPERTIES ('{DELETE_MODE}' = '{mode}')")
    spark.sql(f"ALTER TABLE {name} CREATE OR REPLACE BRANCH bench AS OF VERSION {snapshot.snapshot_id}")
    started = time.perf_counter()
    known.delete(spark, f"{name}.branch_bench")
    seconds = time.perf_counter() - started
    spark.sql(f"ALTER TABLE {name} DROP BRANCH bench")
    known.release()
    return seconds


def read(settings: Settings, spec: DatasetSpec) -> float:
    """Seconds of one epoch."""
    started = time.perf_counter()
    for _ in Reader(open_catalog(settings).load_table(spec.table()), batch_requests=256):
        pass
    return time.perf_counter() - started


def main() -> None:
    """Run, print, write."""
    given = arguments("late_merge", __doc__ or "")
    shape = Shape(requests=1000, fanout=2, history=64) if given.quick else Shape(requests=20_000, fanout=2)
    rounds, buckets = (1, 4) if given.quick else (2, 32)
    home = Path(tempfile.mkdtemp(prefix="reqlake-bench-"))
    times: dict[str, list[float]] = {}

    def keep(name: str, seconds: float) -> None:
        print(f"{name}: {seconds:.2f}", file=sys.stderr)
        times.setdefault(name, []).append(seconds)

    try:
        settings = load_settings(home=home, ingest={"max_bad_share": 1.0})
        spark, spec, log = build_session(settings), long_history_spec("late", buckets), SyntheticLog(shape)
        write_raw(home / "raw", shape, "time", files=4)
        run(spark, settings, spec, [home / "raw"])
        chosen = {"all": np.ones(log.users, bool), "one_bucket": one_bucket(spark, log, buckets)}
        for i in range(rounds + 1):
            for where, users in chosen.items():
                raw = home / f"late-{where}-{i}.parquet"
                pq.write_table(late_batch(log, users, 2 * i + (where == "all")), raw)
                told = {f"delete_{where}_{mode}": delete(spark, settings, spec, str(raw), mode) for mode in MODES}
                report = run(spark, settings, spec, [raw])
                told |= {f"merge_{where}": sum(report.seconds.values()), f"write_{where}": report.seconds["write"]}
                if i:  # round 0 warms the JVM
                    for name, seconds in told.items():
                        keep(name, seconds)
            told_read = read(settings, spec)
            started = time.perf_counter()
            compact.run(spark, settings, spec, every=True)
            if i:
                keep("rewrite", time.perf_counter() - started)
                keep("read_with_deletes", told_read)
                keep("read_compacted", read(settings, spec))
    finally:
        shutil.rmtree(home, ignore_errors=True)
    found = {name: median(seconds) for name, seconds in times.items()}
    rewrite = found["rewrite"]
    ratios: dict[str, Any] = {
        "late_merge_over_rewrite": found["merge_all"] / rewrite,
        "late_merge_one_bucket": found["merge_one_bucket"] / rewrite,
        "read_with_deletes_over_compacted": found["read_with_deletes"] / found["read_compacted"],
    }
    for where in chosen:
        for mode in MODES:
            both = found[f"delete_{where}_{mode}"] + found[f"write_{where}"]
            ratios[f"{mode.replace('-', '_')}_{where}_over_rewrite"] = both / rewrite
    publish(
        "late_merge",
        machine=machine("pyspark", "pyarrow", "pyiceberg"),
        settings={"shape": vars(shape), "buckets": buckets, "share": SHARE, "rounds": rounds, "each_round": times},
        rows=[{"what": name, "seconds": seconds} for name, seconds in found.items()],
        ratios=ratios,
        out=given.out,
    )


if __name__ == "__main__":
    main()
