"""What a request table of a log would be worth, before there is one: from a sample of whole users, without Spark.

The baseline is the log as it lies: its columns' compressed bytes come from the footers, exactly. The sampled users'
rows are laid out as a request table would hold them, written, and measured. The users fall into groups by hash; what
the groups differ by gives each factor's interval (a ratio's jackknife over groups, 95 %).
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash
from numpy.typing import NDArray
from pyiceberg.table import Table

from lakehouse.chosen_users import chosen_users
from lakehouse.errors import RawDataError
from lakehouse.report.measure import leaf_names
from lakehouse.spec import DatasetSpec
from lakehouse.spec.sample import content_codes, raw_files

SAMPLE_ROWS, GROUPS = 200_000, 8
T_95 = 2.36
"""Student's t for seven degrees of freedom, the groups less one."""
SCAN_RATE = 100e6
"""Decoded bytes that a core ingests in a second (benchmarks/results/ingest.json: 2.3 GB in 10 to 13 s on two)."""
Source = tuple[str, int, Callable[[], Any]]


@dataclass(frozen=True)
class Estimated:
    """How many times fewer bytes, with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class ColumnEstimate:
    """One raw column: once per request or per candidate, its bytes as it lies, and the factors."""

    name: str
    level: str  # request, candidate, unused
    file_bytes: int
    file_factor: Estimated | None
    decoded_factor: Estimated | None


@dataclass(frozen=True)
class Estimate:
    """All figures. Bytes are of the whole log; `requests` and `users` are scaled up from the sample."""

    source: str
    rows: int
    sampled_rows: int
    sampled_users: int
    requests: int
    fan_out: Estimated
    file_bytes: int
    decoded_bytes: int
    file: Estimated
    decoded: Estimated
    columns: tuple[ColumnEstimate, ...]
    core_seconds: float
    yearly_cost: tuple[float, float] | None
    seconds: float

    @property
    def advice(self) -> str:
        """The verdict in a sentence."""
        if self.decoded.low < 1.1:
            return "Few rows share a request: a request table would gain little, on disk or decoded."
        if self.file.value < 1.5:
            return (
                "The log's neighbouring rows are alike already, so a request table gains little on disk. Its gain is "
                "in what compression does not lower: the bytes that readers decode, and a model's work per request."
            )
        return "A request table gains on disk, and in every byte that is decoded, copied and computed on."

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"advice": self.advice}


def sources_of(log: str | Table) -> list[Source]:
    """(name, bytes, how to open) of a log's Parquet files: a path, a folder, a pattern, or an Iceberg table."""
    if isinstance(log, Table):
        return [
            (t.file.file_path, t.file.file_size_in_bytes, log.io.new_input(t.file.file_path).open)
            for t in log.scan().plan_files()
        ]
    return [(str(f), f.stat().st_size, partial(str, f)) for f in raw_files(log)]


def estimate(
    spec: DatasetSpec,
    sources: list[Source],
    name: str,
    *,
    sample_rows: int = SAMPLE_ROWS,
    price_gb_month: float | None = None,
) -> Estimate:
    """Sample, lay out, measure; writes nothing. Raises RawDataError for a log without rows or without its keys."""
    started = time.perf_counter()
    rows, compressed = _footers(sources)
    if not rows:
        raise RawDataError(f"{name}: no rows to estimate from")
    keys = _keys(spec)
    missing = [k for k in keys if k.split(".")[0] not in compressed]
    if missing:
        raise RawDataError(f"{name} has no column {', '.join(missing)}, which the spec of {spec.name} names as a key")
    share = min(1.0, sample_rows / rows)
    sample, codes = _sample(sources, keys[0], share)
    if not len(sample):
        raise RawDataError(f"{name}: no user falls into a sample of {share:.2%}, raise --rows")
    levels = _levels(spec, list(compressed))
    groups = [_measure(sample, codes, g, keys, levels) for g in range(GROUPS)]
    groups = [g for g in groups if g.rows]
    per_row = {c: size / rows for c, size in compressed.items()}
    kept = [c for c in compressed if levels[c] != "unused"]

    def files(columns: list[str]) -> Estimated:
        flat = [sum(per_row[c] for c in compressed if c in columns) * g.rows for g in groups]
        return _ratio(flat, [float(sum(g.file[c] for c in columns if c in g.file)) for g in groups])

    def decoded(columns: list[str]) -> Estimated:
        flat = [float(sum(g.flat[c] for c in columns)) for g in groups]
        return _ratio(flat, [float(sum(g.decoded[c] for c in columns if c in g.decoded)) for g in groups])

    columns = tuple(
        ColumnEstimate(c, levels[c], compressed[c], *((files([c]), decoded([c])) if c in kept else (None, None)))
        for c in sorted(compressed, key=lambda c: -compressed[c])
    )
    scale = rows / len(sample)
    flat_bytes = int(scale * sum(sum(g.flat.values()) for g in groups))
    file_bytes, on_disk = sum(size for _, size, _ in sources), files(kept)
    cost = None
    if price_gb_month is not None:
        yearly = file_bytes / 1e9 * price_gb_month * 12
        cost = (yearly, yearly / on_disk.value if on_disk.value else yearly)
    return Estimate(
        source=name,
        rows=rows,
        sampled_rows=len(sample),
        sampled_users=len(np.unique(codes)),
        requests=int(scale * sum(g.requests for g in groups)),
        fan_out=_ratio([float(g.rows) for g in groups], [float(g.requests) for g in groups]),
        file_bytes=file_bytes,
        decoded_bytes=flat_bytes,
        file=on_disk,
        decoded=decoded(kept),
        columns=columns,
        core_seconds=flat_bytes / SCAN_RATE,
        yearly_cost=cost,
        seconds=time.perf_counter() - started,
    )


@dataclass(frozen=True)
class _Group:
    rows: int
    requests: int
    flat: Counter[str]
    decoded: Counter[str]
    file: Counter[str]


def _keys(spec: DatasetSpec) -> list[str]:
    """The user's column, then what tells requests apart: their id, or their time where it is made."""
    request = spec.keys.request_id.column or spec.keys.request_ts.column
    return [spec.keys.user_id.column, request]


def _levels(spec: DatasetSpec, roots: list[str]) -> dict[str, str]:
    own = {c.raw.split(".")[0] for c in spec.columns("candidate", "label")}
    keys = spec.keys
    named = (keys.item_id.column, keys.position, keys.row_version, keys.impression_ts and keys.impression_ts.column)
    own |= {name.split(".")[0] for name in named if name}
    own |= {label.time.column.split(".")[0] for label in spec.labels.values() if label.time is not None}
    shared = {c.raw.split(".")[0] for c in spec.columns("request", "sequence")}
    request = (keys.user_id.column, *keys.user_id.fallback, keys.request_id.column, keys.request_ts.column)
    shared |= {name.split(".")[0] for name in request if name}
    return {r: "candidate" if r in own else "request" if r in shared else "unused" for r in roots}


def _footers(sources: list[Source]) -> tuple[int, Counter[str]]:
    """Rows, and compressed bytes by top-level column."""
    rows, compressed = 0, Counter[str]()
    for _, _, open_file in sources:
        with pq.ParquetFile(open_file()) as file:
            rows += file.metadata.num_rows
            compressed.update(dict.fromkeys(file.schema_arrow.names, 0))
            _add_chunks(file, compressed)
    return rows, compressed


def _add_chunks(file: pq.ParquetFile, compressed: Counter[str]) -> None:
    names = leaf_names(file.schema_arrow)
    for group in range(file.metadata.num_row_groups):
        for i, leaf in enumerate(names):
            compressed[leaf.split(".")[0]] += file.metadata.row_group(group).column(i).total_compressed_size


def _sample(sources: list[Source], user: str, share: float) -> tuple[pa.Table, NDArray[np.int64]]:
    """The rows of the chosen users in their order, and each row's user as a code [rows]."""
    parts, codes = [], []
    for rows, users in _row_groups(sources, user):
        code = _user_codes(users)
        chosen = np.flatnonzero(chosen_users(code, share))
        if len(chosen):
            parts.append(rows().take(pa.array(chosen)))
            codes.append(code[chosen])
    table = pa.concat_tables(parts, promote_options="permissive") if parts else pa.table({})
    return table, np.concatenate(codes) if codes else np.zeros(0, np.int64)


def _user_codes(users: pa.ChunkedArray) -> NDArray[np.int64]:
    """A number per user [rows], the same in every file: an integer itself, else the hash of its text."""
    encoded = pc.dictionary_encode(users.combine_chunks(), null_encoding="encode")
    texts = encoded.dictionary.to_pylist()
    codes = [v if isinstance(v, int) else xxhash.xxh64_intdigest(str(v).encode(), 42) - (1 << 63) for v in texts]
    of_rows: NDArray[np.int64] = np.array(codes, np.int64)[encoded.indices.to_numpy(zero_copy_only=False)]
    return of_rows


def _row_groups(sources: list[Source], user: str) -> Iterator[tuple[Callable[[], pa.Table], pa.ChunkedArray]]:
    root, *path = user.split(".")
    for _, _, open_file in sources:
        with pq.ParquetFile(open_file()) as file:
            for group in range(file.metadata.num_row_groups):
                users = file.read_row_group(group, columns=[root])[root]
                yield partial(file.read_row_group, group), pc.struct_field(users, path) if path else users


def _measure(sample: pa.Table, codes: NDArray[np.int64], group: int, keys: list[str], levels: dict[str, str]) -> _Group:
    """One group of the sampled users, laid out and written."""
    spread = codes.view(np.uint64) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(32)  # ids may all be even
    mine = np.flatnonzero(spread % np.uint64(GROUPS) == group)
    rows, users = sample.take(pa.array(mine)), codes[mine]
    nothing = Counter[str]()
    if not len(rows):
        return _Group(0, 0, nothing, nothing, nothing)
    root, *path = keys[1].split(".")
    request = content_codes(pc.struct_field(rows[root], path) if path else rows[root])
    order = np.lexsort((request, users))
    first = np.r_[True, (np.diff(users[order]) != 0) | (np.diff(request[order].view(np.int64)) != 0)]
    offsets = np.r_[np.flatnonzero(first), len(order)].astype(np.int32)
    columns = {}
    for name, level in levels.items():
        if level == "request":
            columns[name] = rows[name].take(pa.array(order[first])).combine_chunks()
        elif level == "candidate":
            values = rows[name].take(pa.array(order)).combine_chunks()
            columns[name] = pa.ListArray.from_arrays(pa.array(offsets), _one(values))
    flat = Counter({name: rows[name].nbytes for name, level in levels.items() if level != "unused"})
    decoded = Counter({name: column.nbytes for name, column in columns.items()})
    return _Group(len(rows), len(offsets) - 1, flat, decoded, _written(pa.table(columns)))


def _one(values: Any) -> pa.Array:
    if isinstance(values, pa.ChunkedArray):
        return values.combine_chunks() if values.num_chunks != 1 else values.chunk(0)
    return values


def _written(table: pa.Table) -> Counter[str]:
    """Compressed bytes by column, with or without a dictionary, whichever is smaller."""
    best: list[Counter[str]] = []
    for dictionary in (True, False):
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd", data_page_size=8 << 20, use_dictionary=dictionary)
        sizes = Counter[str]()
        with pq.ParquetFile(pa.BufferReader(sink.getvalue())) as file:
            _add_chunks(file, sizes)
        best.append(sizes)
    return Counter({name: min(b[name] for b in best) for name in table.schema.names})


def _ratio(flat: list[float], laid: list[float]) -> Estimated:
    """The ratio of sums with its interval from leaving out one group at a time."""
    total, parts = sum(flat), len(flat)
    below = sum(laid)
    if not below or not total:
        return Estimated(0.0, 0.0, 0.0)
    value = total / below
    if parts < 2:
        return Estimated(value, 0.0, math.inf)
    left = [(total - f) / (below - b) if below > b else value for f, b in zip(flat, laid, strict=True)]
    mean = sum(left) / parts
    error = math.sqrt((parts - 1) / parts * sum((x - mean) ** 2 for x in left))
    return Estimated(value, max(value - T_95 * error, 0.0), value + T_95 * error)
