"""The reader beside bare decoding, PyIceberg's reader, and readers of the flat rows; its memory, plans and resumes.

Long histories (1,024 events) at fan-out 24, files in the page cache, the same threads for all, interleaved rounds and
medians. Flat readers run on a part of the rows, since one request's rows repeat its history 24 times.
"""

from __future__ import annotations

import tempfile
import threading
import time
import tracemalloc
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.table import Table

from benchmarks.reader_data import flat_files, repeated, request_table
from benchmarks.reader_flat import flat_readers
from benchmarks.report import arguments, machine, publish
from benchmarks.synthetic import Shape
from feature_reader import Reader, ReadUnit
from feature_reader.collate import Window
from feature_reader.decode import Decoder
from feature_reader.layout import sequence_siblings
from feature_reader.testing import delete_positions
from lakehouse.catalog import local_path
from lakehouse.settings import load_settings

THREADS = 2
BATCH = 256
BOUND = 512 << 20


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def peak_memory(work: Callable[[], Any]) -> int:
    """Most bytes that Arrow and numpy held during `work`, sampled."""
    base, peak, done = pa.total_allocated_bytes(), [0], threading.Event()
    tracemalloc.start()

    def watch() -> None:
        while not done.wait(0.0005):
            peak[0] = max(peak[0], pa.total_allocated_bytes() - base + tracemalloc.get_traced_memory()[0])

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        work()
    finally:
        done.set()
        watcher.join()
        tracemalloc.stop()
    return peak[0]


def reader(table: Table, **options: Any) -> Reader:
    """A planned reader."""
    made = Reader(table, **({"batch_requests": BATCH, "threads": THREADS, "memory_bytes": BOUND} | options))
    made.plan  # noqa: B018 - made on first use
    return made


def drain(batches: Any) -> int:
    """Take every batch, as a loop does that holds one until the next one comes."""
    return sum(batch.C for batch in batches)


def bare(planned: Reader, units: Sequence[ReadUnit] | None = None) -> int:
    """Decode the plan's row groups, or these of them, with the reader's columns and threads, and drop them."""
    names = [f.name for f in planned.layout.read]

    def one(unit: Any) -> int:
        with pq.ParquetFile(local_path(planned.plan.files[unit.file])) as file:
            return file.read_row_group(unit.row_group, columns=names, use_threads=False).num_rows

    with ThreadPoolExecutor(THREADS) as pool:
        return sum(pool.map(one, planned.plan.units if units is None else units))


def pyiceberg(planned: Reader) -> int:
    """PyIceberg's batch reader with the reader's own collate of each record batch: batches in file order."""
    names = tuple(f.name for f in planned.layout.read)
    present = {f.field_id: f.name for f in planned.layout.read}
    decode = Decoder(planned.layout, sequence_siblings(planned.spec, planned.table.schema()))
    done = 0
    for chunk in planned.table.scan(
        selected_fields=names, snapshot_id=planned.sources[0].snapshot_id
    ).to_arrow_batch_reader():
        table = pa.Table.from_batches([chunk])
        table = table.cast(pa.schema([pa.field(f.name, _small(f.type)) for f in table.schema]))
        window = Window([decode(table, present, "batch")])
        slot = np.zeros(BATCH, np.int64)
        for start in range(0, table.num_rows, BATCH):
            row = np.arange(start, min(start + BATCH, table.num_rows))
            done += window.take(slot[: len(row)], row).R
    return done


def _small(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_large_list(kind):
        return pa.list_(_small(kind.value_type))
    return pa.string() if pa.types.is_large_string(kind) else kind


def with_deletes(table: Table, share: float) -> Reader:
    """A planned reader of the table with a share of its rows deleted by position, in a snapshot of its own."""
    rng = np.random.default_rng(0)
    files = [task.file for task in table.scan().plan_files()]
    gone = {f.file_path: np.flatnonzero(rng.random(f.record_count) < share).tolist() for f in files}
    return reader(delete_positions(table.catalog.load_table(table.name()), gone))


def speeds(table: Table, flat: dict[str, list[Path]], rounds: int) -> dict[str, dict[str, Any]]:
    """Candidate rows per second of each way of reading."""
    ours, in_order, deleted = reader(table), reader(table, shuffle=False), with_deletes(table, 0.01)
    impressions = sum(u.candidates for u in ours.plan.units)
    ways: dict[str, tuple[Callable[[], Any], int]] = {
        "ours": (lambda: drain(ours), impressions),
        "ours, not shuffled": (lambda: drain(in_order), impressions),
        "ours, 1 % deleted": (lambda: drain(deleted), int(impressions * 0.99)),
        "bare read_row_group": (lambda: bare(ours), impressions),
        "PyIceberg + collate": (lambda: pyiceberg(ours), impressions),
    }
    for label, paths in flat.items():
        rows = sum(pq.ParquetFile(p).metadata.num_rows for p in paths)
        ways |= {
            f"flat, {name}, {label}": (work, rows) for name, work in flat_readers(paths, THREADS, BATCH * 8).items()
        }
    for work, _ in ways.values():
        work()  # warms the page cache, and workers' imports
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, (work, _rows) in ways.items():
            times[name].append(seconds(work))
    return {
        name: {
            "reader": name,
            "candidate_rows_per_s": round(rows / median(times[name])),
            "seconds": median(times[name]),
        }
        for name, (_, rows) in ways.items()
    }


def first_batches(table: Table, rounds: int) -> dict[str, float]:
    """Seconds to the first batch after the plan, alone and with a window beside the bare decode of its groups."""
    alone, windowed, groups, start, end = [], [], [], [], []
    for _ in range(max(5, rounds)):
        one, window = reader(table, window=1), reader(table, window=8)
        alone.append(seconds(lambda: next(iter(one))))  # noqa: B023
        windowed.append(seconds(lambda: next(iter(window))))  # noqa: B023
        first = [window.plan.units[u] for u in window.order(0).units_of(0)]
        groups.append(seconds(lambda: bare(window, first)))  # noqa: B023
        for place, consumed in ((start, 0), (end, one.plan.requests - BATCH)):
            resumed = reader(table, window=1)
            resumed.load_state_dict(resumed.state_dict() | {"requests_consumed": consumed})
            place.append(seconds(lambda: next(iter(resumed))))  # noqa: B023
    return {
        "first_batch_s": median(alone),
        "first_window_over_bare_decode": median(windowed) / median(groups),
        "resume_end_over_start": median(end) / median(start),
    }


def main() -> None:
    """Measure, print, write."""
    given = arguments("reader", __doc__ or "")
    quick, rounds = given.quick, 1 if given.quick else 5
    requests = 1024 if quick else 16384
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        settings = load_settings(home=home / "lake")
        shape = Shape(requests=requests)
        table = request_table(settings, "long", shape, row_group=128 if quick else 1024)
        sample = replace(shape, requests=128 if quick else 768)
        flat = {
            f"{rows:,} rows a group, {'dictionary' if d else 'plain'}": flat_files(
                home / f"flat-{rows}-{d}", sample, row_group=rows, dictionary=d
            )
            for rows, d in ((8000, True), (2000, True), (2000, False), (500, True), (500, False))
        }
        rows = speeds(table, flat, rounds)
        rate = {name: row["candidate_rows_per_s"] for name, row in rows.items()}
        best_flat = max(value for name, value in rate.items() if name.startswith("flat"))
        ratios = {
            "over_best_flat_per_fanout": rate["ours"] / best_flat / shape.fanout,
            "over_best_flat": rate["ours"] / best_flat,
            "over_bare_decode": rate["ours"] / rate["bare read_row_group"],
            "over_bare_decode_not_shuffled": rate["ours, not shuffled"] / rate["bare read_row_group"],
            "over_pyiceberg": rate["ours"] / rate["PyIceberg + collate"],
            "over_pyiceberg_not_shuffled": rate["ours, not shuffled"] / rate["PyIceberg + collate"],
            "with_deletes_over_without": rate["ours, 1 % deleted"] / rate["ours"],
        } | first_batches(table, rounds)
        ratios |= memory(settings, table, quick)
        files = request_table(
            settings,
            "many",
            Shape(requests=2000 if quick else 80_000, fanout=2, history=4, requests_per_user=1),
            row_group=1024,
            buckets=200 if quick else 10_000,
        )
        planned = [reader(files) for _ in range(rounds)]
        ratios["planned_files"] = float(len(planned[0].plan.files))
        ratios["plan_10k_files_s" if not quick else "plan_200_files_s"] = median(r.stats.plan_s for r in planned)
        publish(
            "reader",
            machine=machine("pyarrow", "pyiceberg", "torch", "datasets", "numpy"),
            settings={
                "requests": requests,
                "fanout": shape.fanout,
                "history": shape.history,
                "batch_requests": BATCH,
                "threads": THREADS,
                "memory_bytes": BOUND,
                "rounds": rounds,
                "flat_requests": sample.requests,
                "decoded_bytes": reader(table).plan.decoded_bytes,
            },
            rows=list(rows.values()),
            ratios=ratios,
            out=given.out,
        )


def memory(settings: Any, table: Table, quick: bool) -> dict[str, float]:
    """Peak bytes of Arrow and numpy over the bound, of tables of three sizes and of slices; and beside PyIceberg's."""
    group = 64 if quick else 1024
    options: dict[str, Any] = {"batch_requests": group // 4}
    ours = reader(table)
    bound = 4 * max(u.decoded_bytes for u in ours.plan.units) + (16 << 20)
    ratios = {"memory_over_pyiceberg": peak_memory(lambda: drain(reader(table, memory_bytes=bound, **options)))}
    ratios["memory_over_pyiceberg"] /= peak_memory(lambda: pyiceberg(ours))
    worst = 0.0
    for times in (1, 4) if quick else (1, 4, 16):
        shape = Shape(requests=times * (256 if quick else 4096))
        grown = request_table(settings, f"grown_{times}", shape, row_group=group)
        limit = 4 * max(u.decoded_bytes for u in reader(grown).plan.units) + (16 << 20)
        worst = max(worst, peak_memory(lambda: drain(reader(grown, memory_bytes=limit, **options))) / limit)  # noqa: B023
    whole = Shape(requests=2048 if quick else 16_384)
    one = request_table(settings, "one_group", whole, row_group=whole.requests, buckets=1, page_bytes=1 << 20)
    limit = 24 << 20
    options |= {"memory_bytes": limit, "batch_requests": 32}
    sliced = max(peak_memory(lambda: drain(reader(one, shuffle=shuffle, **options))) for shuffle in (True, False))  # noqa: B023
    ratios["group_over_sliced_bound"] = reader(one).plan.decoded_bytes / limit
    large = repeated(grown, 2 if quick else 8)
    ratios["large_table_gb"] = reader(large).plan.decoded_bytes / 1e9
    ratios["large_table_peak_over_bound"] = peak_memory(lambda: drain(reader(large))) / BOUND
    return ratios | {"peak_over_bound": worst, "sliced_peak_over_bound": sliced / limit}


if __name__ == "__main__":
    main()
