"""How to cut a request table into files, given what is expected to lie in it.

A file that decodes to less than 64 MB costs more to open than to read: MovieLens by day made 5,192 files for 11,302
requests, 13 times the bytes and 60 times the read. Coarser than needed costs little, since a row group is the unit of
reading. Partitioning is nearly irreversible: every file is rewritten when it changes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from lakehouse.spec.dataset import DatasetSpec
from lakehouse.spec.fields import Partition

MB = 1 << 20
LEAST_FILE, BEST_FILE, MOST_FILE = 64 * MB, 128 * MB, 2048 * MB  # decoded bytes
SMALL_TABLE = 4 * LEAST_FILE
SMALL_BUCKETS = 4  # room to grow, and four files that can be read at once
MOST_BUCKETS = 4096
GRAIN_DAYS = {"day": 1.0, "month": 365.25 / 12, "year": 365.25}

ELEMENT_BYTES = {"bool": 1, "int": 4, "float": 4, "string": 16, "long": 8, "double": 8, "timestamp": 8}
USUAL_HISTORY, USUAL_LIST = 256, 4  # events of a sequence, elements of another list, where nothing says better


@dataclass(frozen=True)
class Volume:
    """What a table will hold: decoded bytes of one request with all its candidates, and requests a day and in all."""

    bytes_per_request: float
    requests_per_day: float
    requests: float

    def bytes_in(self, grain: str) -> float:
        """Decoded bytes of one period of a grain; of the whole table for `none`."""
        if grain == "none":
            return self.bytes_per_request * self.requests
        return self.bytes_per_request * min(self.requests_per_day * GRAIN_DAYS[grain], max(self.requests, 1))


@dataclass(frozen=True)
class Advice:
    """What a partitioning leads to: files in all, decoded bytes of one, and whether that is a good size."""

    partition: Partition
    files: float
    bytes_per_file: float
    verdict: Literal["good", "small", "large"]
    better: Partition

    def __str__(self) -> str:
        size = megabytes(self.bytes_per_file)
        shown = f"{describe(self.partition)}: about {self.files:,.0f} files that decode to {size} each"
        if self.verdict == "good":
            return f"{shown}. Good"
        why = (
            "files under 64 MB cost more to open than to read"
            if self.verdict == "small"
            else "files over 2 GB make each rewrite and each lost task expensive"
        )
        return f"{shown}: {why}. Better: {describe(self.better)}"


def suggest(volume: Volume) -> Partition:
    """The finest grain whose periods fill several files of 64 MB, and as many buckets as leave files of 128 MB."""
    for grain in ("day", "month", "year"):
        if volume.requests_per_day * GRAIN_DAYS[grain] <= volume.requests and volume.bytes_in(grain) >= SMALL_TABLE:
            return Partition(grain=grain, buckets=_buckets(volume.bytes_in(grain)))
    return Partition(grain="none", buckets=max(SMALL_BUCKETS, _buckets(volume.bytes_in("none"))))


def judge(partition: Partition, volume: Volume) -> Advice:
    """Whether a partitioning suits a volume. Further partition columns do not count: they make files smaller."""
    period = volume.bytes_in(partition.grain)
    size = period / partition.buckets
    periods = max(1.0, volume.bytes_in("none") / period) if period else 1.0
    few = partition.grain == "none" and partition.buckets <= SMALL_BUCKETS
    verdict: Literal["good", "small", "large"] = "good"
    if size < LEAST_FILE and not few:
        verdict = "small"
    elif size > MOST_FILE:
        verdict = "large"
    better = suggest(volume).model_copy(update={"columns": partition.columns})
    return Advice(partition, periods * partition.buckets, size, verdict, better)


def expected(spec: DatasetSpec, rows_per_day: float, fan_out: float = 16.0, days: float = 365.0) -> Volume:
    """A volume from the spec alone: `max_length` (or 256) events a history, `days` days of `rows_per_day` rows."""
    candidate = sum(_bytes(c.type.element, c.type.shape, c.type.size) for c in spec.columns() if c.per_candidate)
    request = 0.0
    for column in spec.columns():
        if column.per_candidate:
            continue
        if column.group is not None:
            request += ELEMENT_BYTES[column.type.element] * (spec.sequences[column.group].max_length or USUAL_HISTORY)
        else:
            request += _bytes(column.type.element, column.type.shape, column.type.size)
    return Volume(request + candidate * fan_out, rows_per_day / fan_out, rows_per_day / fan_out * days)


def describe(partition: Partition) -> str:
    """`{grain: day, buckets: 8}`, as a spec has it."""
    columns = f", columns: [{', '.join(partition.columns)}]" if partition.columns else ""
    return f"{{grain: {partition.grain}, buckets: {partition.buckets}{columns}}}"


def megabytes(size: float) -> str:
    """Bytes for people: 0.4 MB, 64 MB, 2.1 GB."""
    if size >= 1000 * MB:
        return f"{size / 1024 / MB:,.1f} GB"
    return f"{size / MB:,.1f} MB" if size < 10 * MB else f"{size / MB:,.0f} MB"


def _bytes(element: str, shape: str, size: int | None) -> float:
    return ELEMENT_BYTES[element] * {"scalar": 1, "list": USUAL_LIST, "vector": size or 1}[shape]


def _buckets(period: float) -> int:
    return min(MOST_BUCKETS, 1 << math.floor(math.log2(max(period / BEST_FILE, 1))))
