"""How much a raw log will be as a request table, from a sample: what the partitioning is chosen by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.raw.log import log_files, open_file
from lakehouse.spec.advice import Volume, expected
from lakehouse.spec.dataset import DatasetSpec
from lakehouse.spec.guess import CONSTANT, EPOCHS, Keys, keys_of
from lakehouse.spec.sample import Sample, read_sample

DAY = 86400.0


def measure(sample: Sample, keys: Keys, raw: str | Path) -> Volume:
    """Decoded bytes of a request with its candidates, requests a day over the log's span, requests in all."""
    rows = sample.table.num_rows
    fan_out = rows / keys.groups.count
    per_row = {name: sample.table[name].nbytes / rows for name in sample.names}
    shared = {name for name in sample.names if sample.agreement(name, keys.groups) >= CONSTANT}
    size = sum(b if name in shared else b * fan_out for name, b in per_row.items())
    requests = sample.total_rows / fan_out
    return Volume(size, requests / max(1.0, _span_days(keys, raw)), requests)


def _span_days(keys: Keys, raw: str | Path) -> float:
    """Days between the log's first and last time, by the statistics that its files carry; 0 where they carry none."""
    least, most = np.inf, -np.inf
    for file in log_files(raw):
        if file.content.format != "parquet":
            continue  # PyArrow shows no statistics of ORC
        with open_file(file) as source:
            metadata = pq.ParquetFile(source).metadata
        column = next(
            (i for i in range(metadata.num_columns) if metadata.schema.column(i).path == keys.request_ts.column), None
        )
        for group in range(metadata.num_row_groups if column is not None else 0):
            statistics = metadata.row_group(group).column(column).statistics
            if statistics is not None and statistics.has_min_max:
                least = min(least, _seconds(statistics.min, keys.request_ts.unit))
                most = max(most, _seconds(statistics.max, keys.request_ts.unit))
    return max(0.0, (most - least) / DAY) if most >= least else 0.0


def _seconds(value: object, unit: str | None) -> float:
    if unit is not None:
        return float(value) / EPOCHS[unit]  # type: ignore[arg-type]
    return float(pa.scalar(value).cast(pa.timestamp("us")).value) / 1e6


def volume_for(spec: DatasetSpec, raw: str | Path | None, rows_per_day: float | None) -> Volume | None:
    """What to judge a spec's partitioning by: the raw log's own volume, the growth that is expected, or both.

    With growth, a year of it; its requests are as large as the log's, or as the spec says. None where nothing is known.
    """
    if raw is None:
        return expected(spec, rows_per_day) if rows_per_day else None
    sample = read_sample(raw)
    keys = keys_of(spec, sample)
    found = measure(sample, keys, raw)
    if not rows_per_day:
        return found
    requests = rows_per_day / (len(keys.groups.of) / keys.groups.count)
    return Volume(found.bytes_per_request, requests, found.requests + 365 * requests)
