"""What reading a table costs on this machine, and which stage bounds it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from time import perf_counter
from typing import Any, Literal

from pyiceberg.table import Table

from feature_reader.batch import RequestBatch
from feature_reader.errors import MemoryBoundError, ReaderError
from feature_reader.reader import Reader
from feature_reader.sources import Source

Bound = Literal["disk", "decode", "collate", "consumer"]


@dataclass(frozen=True)
class BenchRow:
    """One setting, measured on a warm plan."""

    threads: int
    window: int
    requests_per_s: float
    candidates_per_s: float
    decoded_mb_per_s: float
    first_batch_s: float
    bound: Bound
    """The stage to speed up first: reading bytes, decoding them, gathering batches, or the loop that takes them."""


@dataclass(frozen=True)
class BenchReport:
    """All settings that were tried, and the fastest."""

    rows: tuple[BenchRow, ...]

    @property
    def best(self) -> BenchRow:
        """The setting with the most requests per second."""
        return max(self.rows, key=lambda row: row.requests_per_s)


def bench(
    table: Table | Sequence[Table | Source],
    *,
    threads: Sequence[int] | None = None,
    windows: Sequence[int] = (1, 4, 8),
    seconds: float = 2.0,
    consume: Callable[[RequestBatch], Any] = lambda _: None,
    **options: Any,
) -> BenchReport:
    """Read for some `seconds` under each number of threads and each window; `options` are the reader's.

    `consume` stands for the training step. Windows that the memory bound cannot hold are left out.
    """
    if threads is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        threads = sorted({1, 2, cores} if cores > 1 else {1})
    rows: list[BenchRow] = []
    for window in windows:
        reader = Reader(table, window=window, **options)
        if reader.plan.requests == 0:
            raise ReaderError(
                f"{', '.join(s.label for s in reader.sources)} has no requests to read under these options"
            )
        for count in threads:
            reader.threads = count
            reader.epoch = 0
            try:
                rows.append(_measure(reader, seconds, consume))
            except MemoryBoundError:
                break
    if not rows:
        raise MemoryBoundError(f"memory_bytes={options.get('memory_bytes')} holds none of the windows {list(windows)}")
    return BenchReport(tuple(rows))


def _measure(reader: Reader, seconds: float, consume: Callable[[RequestBatch], Any]) -> BenchRow:
    before = reader.stats.as_dict()
    bytes_per_s = _raw_bytes_per_s(reader)
    consumed = 0.0
    start = perf_counter()
    for batch in islice(reader, 1_000_000):
        begun = perf_counter()
        consume(batch)
        consumed += perf_counter() - begun
        if perf_counter() - start > seconds:
            break
    wall = perf_counter() - start
    spent = {name: value - before[name] for name, value in reader.stats.as_dict().items()}
    disk = _compressed_bytes(reader) / max(1, reader.plan.decoded_bytes) * spent["decoded_bytes"] / bytes_per_s
    stages: dict[Bound, float] = {
        "disk": disk / reader.threads,
        "decode": max(0.0, spent["read_s"] - disk + spent["decode_s"]) / reader.threads,
        "collate": spent["collate_s"] / reader.threads,
        "consumer": consumed,
    }
    return BenchRow(
        threads=reader.threads,
        window=reader.window,
        requests_per_s=spent["requests"] / wall,
        candidates_per_s=spent["candidates"] / wall,
        decoded_mb_per_s=spent["decoded_bytes"] / wall / 1e6,
        first_batch_s=reader.stats.first_batch_s,
        bound=max(stages, key=lambda stage: stages[stage]),
    )


def _compressed_bytes(reader: Reader) -> int:
    """Compressed bytes of the columns read, over all units; from the footers of up to 16 files, scaled up."""
    units = reader.plan.units[:: max(1, len(reader.plan.units) // 16)]
    sample = sum(reader.source_of(u).stored_bytes(reader.plan.files[u.file], u.row_group) for u in units)
    return int(sample / max(1, sum(u.decoded_bytes for u in units)) * reader.plan.decoded_bytes)


def _raw_bytes_per_s(reader: Reader) -> float:
    """Bytes per second of reading a file without decoding it."""
    unit = reader.plan.units[0]
    path = reader.plan.files[unit.file]
    start = perf_counter()
    with reader.source_of(unit).table.io.new_input(path).open() as source:
        size = len(source.read())
    return max(1, size) / max(1e-6, perf_counter() - start)
