"""Maintenance against what it has to be measured by, in one warm session.

Compaction: bytes written over the bytes of the partitions that are due (one of ten), and the most row groups that a
user's query reads afterwards. Backfill of one scalar feature against a full shuffle join and rewrite. Erasure of 0.1 %
of the users, tags and proof aside, against rewriting the files that hold them. Medians of interleaved rounds.
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
import pyarrow.parquet as pq
from pyiceberg.expressions import In
from pyiceberg.table import Table

from benchmarks.reader_data import request_table
from benchmarks.report import arguments, machine, publish
from benchmarks.synthetic import Shape
from lakehouse.catalog import open_catalog
from lakehouse.schema import table_spec
from lakehouse.settings import Settings, load_settings
from lakehouse.upkeep.health import partition_health
from spark_jobs import backfill, compact
from spark_jobs.erase import Erasing, erase_from
from spark_jobs.erase_users import users_of
from spark_jobs.session import build_session

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SMALL_GROUPS = {
    "write.parquet.row-group-size-bytes": str(64 << 10),
    "write.parquet.page-size-bytes": str(32 << 10),
    "write.parquet.row-group-check-min-record-count": "4",
}


def set_properties(table: Table, properties: dict[str, str]) -> None:
    with table.transaction() as change:
        change.set_properties(properties)


def compaction(spark: SparkSession, settings: Settings, shape: Shape) -> dict[str, Any]:
    """One of ten buckets gets small files; what a compaction writes, and what a user's query reads after it."""
    table = request_table(settings, "compaction", shape, row_group=10_000, buckets=10)
    file = next(iter(table.scan().plan_files())).file
    rows = pq.read_table(table.io.new_input(file.file_path).open()).cast(table.schema().as_arrow())
    table.delete(In("user_id", set(rows["user_id"].to_pylist())))
    parts = settings.maintenance.small_files + 1
    for i in range(parts):  # one bucket's rows, dealt out over small files
        table.append(rows.take(pa.array(np.arange(i, len(rows), parts))))
    set_properties(table, SMALL_GROUPS)
    spec = table_spec(table.refresh())
    due = [p for p in partition_health(table, settings.maintenance) if p.due]
    known = {s.snapshot_id for s in table.metadata.snapshots}
    started = time.perf_counter()
    compact.run(spark, settings, spec)
    seconds = time.perf_counter() - started
    made = [s for s in table.refresh().metadata.snapshots if s.snapshot_id not in known and s.summary]
    written = sum(int(s.summary.additional_properties.get("added-files-size", 0)) for s in made if s.summary)
    groups, most = row_groups(table, {p.values for p in due})
    return {
        "what": "compaction",
        "due": len(due),
        "partitions": 10,
        "due_bytes": sum(p.file_bytes for p in due),
        "written_bytes": written,
        "row_groups": groups,
        "read_by_a_user": most,
        "seconds": seconds,
    }


def row_groups(table: Table, partitions: set[tuple[Any, ...]]) -> tuple[int, int]:
    """Fewest row groups of one of the partitions, and the most whose bounds hold one of its users."""
    by_partition: dict[tuple[Any, ...], list[tuple[int, int]]] = {}
    for task in table.scan().plan_files():
        values = tuple(task.file.partition[i] for i in range(len(task.file.partition)))
        if values in partitions:
            with pq.ParquetFile(table.io.new_input(task.file.file_path).open()) as file:
                place = file.schema_arrow.names.index("user_id")  # no list stands before it
                stats = [file.metadata.row_group(g).column(place).statistics for g in range(file.num_row_groups)]
            by_partition.setdefault(values, []).extend((s.min, s.max) for s in stats)
    most = 0
    for bounds in by_partition.values():
        users = {u for low, high in bounds for u in (low, high)}
        most = max(most, *(sum(low <= u <= high for low, high in bounds) for u in users))
    return min(map(len, by_partition.values())), most


def backfills(spark: SparkSession, settings: Settings, shape: Shape, rounds: int) -> dict[str, Any]:
    """The job as it is, keys judged and counted, against the bare join and rewrite."""
    table = request_table(settings, "backfill", shape, row_group=10_000)
    spec = table_spec(table)
    compact.run(spark, settings, spec, every=True)
    keys = table.refresh().scan(selected_fields=("user_id", "request_id")).to_arrow()
    times: dict[str, list[float]] = {"backfill": [], "shuffle": []}
    for i in range(rounds + 1):
        source = str(settings.home / f"source-{i}.parquet")
        value = pa.array(np.random.default_rng(i).integers(0, 24, len(keys)).astype(np.int32))
        pq.write_table(keys.append_column("hour", value), source)
        started = time.perf_counter()
        backfill.run(spark, settings, spec, "hour", source)
        times["backfill"].append(time.perf_counter() - started)
        times["shuffle"].append(shuffle_join(spark, f"lake.{spec.table()}", source))
        print({name: took[-1] for name, took in times.items()}, file=sys.stderr)
    return {"what": "backfill", "rows": len(keys)} | {f"{n}_s": median(t[1:]) for n, t in times.items()}


def shuffle_join(spark: SparkSession, name: str, source: str) -> float:
    """Every row shuffled to meet its value, and shuffled again to its partition."""
    spark.conf.set("spark.sql.autoBroadcastJoinThreshold", "-1")
    started = time.perf_counter()
    rows, given = spark.table(name), spark.read.parquet(source).withColumnRenamed("hour", "_hour")
    joined = rows.join(given, ["user_id", "request_id"], "left").withColumn("hour", given["_hour"])
    joined.select(*rows.columns).writeTo(name).option("check-nullability", "false").overwritePartitions()
    seconds = time.perf_counter() - started
    spark.conf.unset("spark.sql.autoBroadcastJoinThreshold")
    return seconds


def erasures(spark: SparkSession, settings: Settings, shape: Shape, rounds: int) -> dict[str, Any]:
    """Delete, squash, expire and clear, against a sort rewrite of the partitions that hold the users."""
    table = request_table(settings, "erasure", shape, row_group=10_000)
    spec = table_spec(table)
    compact.run(spark, settings, spec, every=True)
    users = -(-shape.requests // shape.requests_per_user)
    wanted = max(1, users // 1000)
    times: dict[str, list[float]] = {"erase": [], "rewrite": []}
    for i in range(rounds + 1):
        victims = users_of([str(1 + i * wanted + j) for j in range(wanted)], spec)
        touched = [
            p for p in partition_health(table.refresh(), settings.maintenance) if holds(table, p.values, victims.ids)
        ]
        started = time.perf_counter()
        compact.rewrite(spark, settings, table, f"lake.{spec.table()}", touched)
        times["rewrite"].append(time.perf_counter() - started)
        erasing = Erasing(spark, settings, open_catalog(settings), spec, victims)
        started = time.perf_counter()
        erase_from(table.refresh(), erasing, "rebuild")
        times["erase"].append(time.perf_counter() - started)
        print({name: took[-1] for name, took in times.items()}, file=sys.stderr)
    return {"what": "erasure", "users": wanted, "of_users": users} | {f"{n}_s": median(t[1:]) for n, t in times.items()}


def holds(table: Table, values: tuple[Any, ...], ids: frozenset[int]) -> bool:
    """Whether a bucket holds one of the users."""
    bucket = table.spec().fields[0].transform.transform(table.schema().find_field("user_id").field_type)
    return values[0] in {bucket(i) for i in ids}


def main() -> None:
    """Run, print, write."""
    given = arguments("maintain", __doc__ or "")
    small = Shape(requests=400, fanout=4, history=64)
    half = small if given.quick else Shape(requests=8000, fanout=4, requests_per_user=4)
    shape = small if given.quick else Shape(requests=16_000, fanout=4, requests_per_user=8)
    rounds = 1 if given.quick else 3
    home = Path(tempfile.mkdtemp(prefix="reqlake-bench-"))
    try:
        settings = load_settings(home=home)
        spark = build_session(settings)
        rows = [
            compaction(spark, settings, half),  # two files a bucket: one bucket alone is due
            backfills(spark, settings, shape, rounds),
            erasures(spark, settings, shape, rounds),
        ]
    finally:
        shutil.rmtree(home, ignore_errors=True)
    compacted, filled, erased = rows
    publish(
        "maintain",
        machine=machine("pyspark", "pyarrow", "pyiceberg"),
        settings={"shape": vars(shape), "compaction_shape": vars(half), "rounds": rounds},
        rows=[{k: row.get(k, "") for k in dict.fromkeys(k for r in rows for k in r)} for row in rows],
        ratios={
            "compaction_bytes_over_due": compacted["written_bytes"] / compacted["due_bytes"],
            "point_query_row_groups": float(compacted["read_by_a_user"]),
            "row_groups_of_a_bucket": float(compacted["row_groups"]),
            "backfill_over_shuffle": filled["backfill_s"] / filled["shuffle_s"],
            "erase_over_rewrite": erased["erase_s"] / erased["rewrite_s"],
        },
        out=given.out,
    )


if __name__ == "__main__":
    main()
