"""What other layouts would make of a table: a sample of it, rewritten with alternatives, in bytes and decode time.

The sample is whole row groups of the largest files, in the order that they lie in, since compression lives on order.
Every alternative changes one thing. PyArrow writes the files, in memory; a decode is the least of three, on one core.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.table import Table

from lakehouse.report.measure import leaf_names
from lakehouse.report.units import size
from lakehouse.spec.advice import BEST_FILE, LEAST_FILE, MOST_FILE

MB = 1 << 20
READS = 3
ROW_GROUPS, LEVELS, FILES = (4, 8, 16, 64), (1, 3, 6, 9), (2, 8, 32)
"""MB decoded of a row group, levels of zstd, MB decoded of a file."""
SHORT = 1 << 10
"""Bytes of a dictionary from which a column is written plain (docs/decisions/0001-file-layout.md)."""
WORTH = 0.03
"""Share of bytes below which a change is not worth a rewrite of the table."""
NOISE = 0.002
"""Seconds that decode times differ by chance."""
SLOWER = 1.25
"""How many times as long a smaller layout may take to decode before it is not recommended."""
FLAT_ENCODINGS = ("plain", "dictionary", "byte stream split")


@dataclass(frozen=True)
class Trial:
    """One alternative: bytes on disk, and seconds to write and to decode it on one core. `now`: as the table is."""

    what: str
    name: str
    file_bytes: int
    write_s: float
    decode_s: float
    now: bool = False


@dataclass(frozen=True)
class ColumnTrial:
    """One column by itself under each encoding: (encoding, bytes, decode seconds), and the smallest that is fast."""

    name: str
    encodings: tuple[tuple[str, int, float], ...]
    best: str


@dataclass(frozen=True)
class Recommendation:
    """What to change, why, and the property or command that does it; an empty command means: leave it."""

    subject: str
    advice: str
    command: str


@dataclass(frozen=True)
class LayoutAdvice:
    """All trials and what follows from them. `sample_rows` of `rows`, `sample_bytes` decoded."""

    rows: int
    sample_rows: int
    sample_bytes: int
    trials: tuple[Trial, ...]
    columns: tuple[ColumnTrial, ...]
    recommendations: tuple[Recommendation, ...]


def layout_advice(table: Table, dataset: str, decoded_bytes: int, *, sample_bytes: int = 32 * MB) -> LayoutAdvice:
    """Try other layouts on about `sample_bytes` of a table that decodes to `decoded_bytes`; an empty one gives none."""
    files = [task.file for task in table.scan().plan_files()] if table.current_snapshot() else []
    paths = [f.file_path for f in sorted(files, key=lambda f: -f.file_size_in_bytes)]
    sample = _sample(table, paths, sample_bytes)
    if not sample.num_rows:
        return LayoutAdvice(0, 0, 0, (), (), ())
    now = _written_now(table)
    trials = tuple(_trials(sample, now))
    columns = tuple(_column_trials(sample, now))
    advised = (bucket_advice(table, dataset, decoded_bytes), *_properties(trials, columns, dataset))
    return LayoutAdvice(sum(f.record_count for f in files), sample.num_rows, sample.nbytes, trials, columns, advised)


def _sample(table: Table, paths: list[str], wanted: int) -> pa.Table:
    parts: list[pa.Table] = []
    for path in paths:
        with pq.ParquetFile(table.io.new_input(path).open()) as file:
            for group in range(file.num_row_groups):
                if sum(p.nbytes for p in parts) >= wanted:
                    break
                rows = file.read_row_group(group)
                share = min(1.0, (wanted - sum(p.nbytes for p in parts)) / max(rows.nbytes, 1))
                parts.append(rows.slice(0, max(1, math.ceil(share * rows.num_rows))))
    if not parts:
        return pa.table({})
    schema = parts[0].schema.remove_metadata()
    same = [p.replace_schema_metadata(None) for p in parts if p.schema.remove_metadata() == schema]
    return pa.concat_tables(same).combine_chunks()


def _written_now(table: Table) -> dict[str, Any]:
    """The table's properties as PyArrow's writer takes them."""
    properties = table.properties
    codec = properties.get("write.parquet.compression-codec", "zstd")
    level = properties.get("write.parquet.compression-level")
    return {
        "compression": "none" if codec == "uncompressed" else codec,
        "compression_level": int(level) if level is not None else 3 if codec == "zstd" else None,
        "data_page_size": int(properties.get("write.parquet.page-size-bytes", MB)),
        "dictionary_pagesize_limit": int(properties.get("write.parquet.dict-size-bytes", 2 * MB)),
        "row_group_size": int(properties.get("write.parquet.row-group-size-bytes", 128 * MB)),
    }


def _trials(sample: pa.Table, now: dict[str, Any]) -> Iterator[Trial]:
    yield _try(sample, "as it is now", "the table's properties", now, now=True)
    for mb in ROW_GROUPS:
        if mb * MB < sample.nbytes:
            yield _try(sample, "row group", f"{mb} MB decoded", now | {"row_group_size": mb * MB})
    for level in LEVELS:
        chosen = now | {"compression": "zstd", "compression_level": level}
        same = (now["compression"], now["compression_level"]) == ("zstd", level)
        yield _try(sample, "compression", f"zstd level {level}", chosen, now=same)
    for limit, name in ((SHORT, "up to 1 kB"), (MB, "up to 1 MB"), (0, "none")):
        chosen = now | {"dictionary_pagesize_limit": limit or None, "use_dictionary": bool(limit)}
        yield _try(sample, "dictionary", name, chosen, now=bool(limit) and now["dictionary_pagesize_limit"] == limit)
    for mb in FILES:
        if mb * MB < sample.nbytes:
            rows = max(1, int(mb * MB * sample.num_rows / sample.nbytes))
            pieces = [sample.slice(start, rows) for start in range(0, sample.num_rows, rows)]
            each = [_try(piece, "", "", now) for piece in pieces]
            sums = (sum(t.file_bytes for t in each), sum(t.write_s for t in each), sum(t.decode_s for t in each))
            yield Trial("file", f"{mb} MB decoded, {len(pieces)} files", *sums)


def _try(rows: pa.Table, what: str, name: str, options: dict[str, Any], *, now: bool = False) -> Trial:
    """Write and read. Options are the writer's, but for `row_group_size`, which is in bytes decoded."""
    given = {k: v for k, v in options.items() if v is not None}
    per_row = max(rows.nbytes / max(rows.num_rows, 1), 1)
    given["row_group_size"] = max(1, int(given["row_group_size"] / per_row))
    sink, began = pa.BufferOutputStream(), time.perf_counter()
    pq.write_table(rows, sink, **given)
    wrote, content = time.perf_counter() - began, sink.getvalue()
    took = []
    for _ in range(READS):
        began = time.perf_counter()
        pq.read_table(pa.BufferReader(content), use_threads=False)
        took.append(time.perf_counter() - began)
    return Trial(what, name, content.size, wrote, min(took), now)


def _column_trials(sample: pa.Table, now: dict[str, Any]) -> Iterator[ColumnTrial]:
    """Each column alone; byte stream split only for numbers. The largest first."""
    found = []
    for name in sample.column_names:
        alone = sample.select([name])
        (leaf, *more) = leaf_names(alone.schema)
        if more:
            continue
        tried = []
        for encoding in FLAT_ENCODINGS:
            if encoding == "byte stream split" and not _splits(alone.schema.field(0).type):
                continue
            options = now | {"dictionary_pagesize_limit": None, "use_dictionary": encoding == "dictionary"}
            if encoding == "byte stream split":
                options |= {"column_encoding": {_path(alone): "BYTE_STREAM_SPLIT"}}
            trial = _try(alone, "", "", options)
            tried.append((encoding, trial.file_bytes, trial.decode_s))
        found.append(ColumnTrial(leaf, tuple(tried), best_encoding(tried)))
    yield from sorted(found, key=lambda c: -max(b for _, b, _ in c.encodings))


def best_encoding(tried: list[tuple[str, int, float]]) -> str:
    """The smallest that decodes within 1.25 times of the fastest; plain where that saves less than 3 %."""
    fastest = min(seconds for _, _, seconds in tried)
    fast = [t for t in tried if t[2] <= max(fastest * SLOWER, fastest + NOISE)]
    name, least, _ = min(fast, key=lambda t: t[1])
    plain = next(t for t in tried if t[0] == "plain")
    return name if plain not in fast or least < plain[1] * (1 - WORTH) else "plain"


def _splits(kind: pa.DataType) -> bool:
    while hasattr(kind, "value_type") and not pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_timestamp(kind))


def _path(alone: pa.Table) -> str:
    sink = pa.BufferOutputStream()
    pq.write_table(alone.slice(0, 1), sink)
    path: str = pq.read_metadata(pa.BufferReader(sink.getvalue())).row_group(0).column(0).path_in_schema
    return path


def bucket_advice(table: Table, dataset: str, decoded_bytes: int) -> Recommendation:
    """As many as leave files of 64 MB decoded and more; the bytes are measured, the rule is of the spec's advice."""
    fields = [f for f in table.spec().fields if str(f.transform).startswith("bucket")]
    if not fields:
        return Recommendation("buckets", "the table has none", "")
    buckets = int(str(fields[0].transform).partition("[")[2].rstrip("]"))
    times = [i for i, f in enumerate(table.spec().fields) if f is not fields[0]]
    periods = {tuple(task.file.partition[i] for i in times) for task in table.scan().plan_files()}
    period = decoded_bytes / max(len(periods), 1)
    told = f"{size(period)} decoded a period in {buckets} buckets: {size(period / buckets)} a file"
    if period / buckets < LEAST_FILE and buckets > 1:
        wanted = max(1, int(period // LEAST_FILE))
        wanted = 1 << (wanted.bit_length() - 1)
        why = f"{told}, and below {size(LEAST_FILE)} a file costs more to open than to read"
    elif period / buckets > MOST_FILE:
        wanted = 1 << math.ceil(math.log2(period / BEST_FILE))
        why = f"{told}, and above {size(MOST_FILE)} one reader waits for one file"
    else:
        return Recommendation("buckets", f"{told}: leave it", "")
    return Recommendation(
        "buckets", f"{why}: {wanted} bucket{'s' * (wanted > 1)}", f"reqlake rebucket {dataset} --buckets {wanted}"
    )


def _properties(trials: tuple[Trial, ...], columns: tuple[ColumnTrial, ...], dataset: str) -> Iterator[Recommendation]:
    base = trials[0]
    for what, setting in (
        ("row group", "write.parquet.row-group-size-bytes"),
        ("compression", "write.parquet.compression-level"),
        ("dictionary", "write.parquet.dict-size-bytes"),
    ):
        tried = [t for t in trials if t.what == what]
        fast = [t for t in tried if t.decode_s <= max(base.decode_s * SLOWER, base.decode_s + NOISE)]
        best = min(fast, key=lambda t: t.file_bytes, default=None)
        if best is None or best.now or best.file_bytes > base.file_bytes * (1 - WORTH):
            yield Recommendation(what, f"leave it: nothing that decodes as fast saves {WORTH:.0%}", "")
        else:
            saved = 1 - best.file_bytes / base.file_bytes
            told = f"{best.name}: {saved:.0%} fewer bytes, {best.decode_s / base.decode_s:.2f} times the decode time"
            yield Recommendation(what, told, f"set {setting}, then reqlake compact {dataset} --every")
    split = [c.name for c in columns if c.best == "byte stream split"]
    listed = [c.name for c in columns if c.best == "dictionary"]
    pays, splits = ", ".join(listed) or "no column", ", ".join(split) or "none"
    told = f"a dictionary pays for {pays}; byte stream split for {splits}"
    yield Recommendation("encoding", told + (" (Iceberg's writers have no property for it)" if split else ""), "")
