"""The dedup report: what storing each request once is worth, in bytes on disk and in bytes decoded.

No factor stands alone: each names what it is measured against. File bytes of a log whose neighbours are alike are small
without any deduplication; decoded bytes, which readers and GPUs pay, are not.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pyiceberg.table import Table

from lakehouse.catalog import open_catalog
from lakehouse.errors import RawDataError
from lakehouse.report.columns import ColumnBytes, pair_columns
from lakehouse.report.cost import Costs, yearly_costs
from lakehouse.report.distribution import Distribution, distribution
from lakehouse.report.layouts import SETTINGS, rewrite, time_order, user_order
from lakehouse.report.measure import Measured, measure
from lakehouse.report.trials import LayoutAdvice, layout_advice
from lakehouse.schema import open_request_table
from lakehouse.settings import Settings
from lakehouse.spec import DatasetSpec
from lakehouse.spec.sample import raw_files
from lakehouse.upkeep.advice import Advice, advise
from lakehouse.upkeep.health import partition_health

MEMORY = 1 << 30  # bytes of decoded rows held at a time while the flat layouts are written
DELETED = "; its bytes hold {:,} rows more that are deleted, until `reqlake compact`"
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Layout:
    """One way to lay out the same impressions: bytes on disk and decoded."""

    key: str
    label: str
    detail: str
    rows: int
    files: int
    file_bytes: int
    decoded_bytes: int


@dataclass(frozen=True)
class Factor:
    """How many times smaller `of` is than `baseline`."""

    quantity: str
    baseline: str
    of: str
    baseline_bytes: int
    of_bytes: int

    @property
    def value(self) -> float:
        """Baseline over measured; 0 where nothing was measured."""
        return self.baseline_bytes / self.of_bytes if self.of_bytes else 0.0


@dataclass(frozen=True)
class PartitionFigures:
    """One partition of the table: its files, the small ones, how many may hold one user, and deleted rows."""

    name: str
    files: int
    small_files: int
    files_of_a_user: int
    deleted_rows: int


@dataclass(frozen=True)
class DedupReport:
    """All figures of one report. Bytes are bytes, `seconds` is what making it took."""

    dataset: str
    snapshot_id: int | None
    raw_rows: int
    requests: int
    candidates: int
    users: int
    layouts: tuple[Layout, ...]
    columns: tuple[ColumnBytes, ...]
    factors: tuple[Factor, ...]
    fan_out: Distribution
    histories: dict[str, Distribution]
    settings: str
    neighbours: str
    seconds: float
    health: tuple[Advice, ...] = ()
    partitions: tuple[PartitionFigures, ...] = ()
    layout_advice: LayoutAdvice | None = None
    costs: Costs | None = None

    def layout(self, key: str) -> Layout:
        """One of `raw`, `time_order`, `flat_sorted`, `requests`."""
        return next(layout for layout in self.layouts if layout.key == key)

    def to_json(self) -> dict[str, Any]:
        """Plain dicts, lists, numbers and strings; each factor with its value."""
        data = dataclasses.asdict(self)
        data["factors"] = [dataclasses.asdict(f) | {"value": f.value} for f in self.factors]
        return data


def dedup_report(
    settings: Settings,
    spec: DatasetSpec,
    raw_paths: list[str] | list[Path],
    *,
    scratch: Path | None = None,
    progress: Progress = lambda _: None,
    memory: int = MEMORY,
    sample_bytes: int = 0,
) -> DedupReport:
    """Measure the raw log as it lies, in time order, sorted by user and request, and the request table.

    `raw_paths` are files, folders or patterns. `scratch` is where the two flat layouts are written for a moment (the
    system's temporary folder by default). With `sample_bytes`, so much of the table is rewritten with other layouts,
    for advice on them. Raises RawDataError, TableMissingError, FormatError.
    """
    started = time.perf_counter()
    table = open_request_table(open_catalog(settings), spec, settings)
    files = sorted({file for path in raw_paths for file in raw_files(path)})
    progress("reading the raw log as it lies")
    raw = _measure_local(files, decode=True)
    if not raw.rows:
        raise RawDataError(f"{', '.join(map(str, raw_paths))}: no rows to report on")
    decoded = sum(raw.decoded.values())
    progress("reading the request table")
    requests = measure_table(table)
    parts = max(1, requests.files)
    flat = {}
    with tempfile.TemporaryDirectory(prefix="reqlake-report-", dir=scratch) as folder:
        for name, order in (("time_order", time_order), ("flat_sorted", user_order)):
            progress(f"writing the same rows {LABELS[name].lower()}")
            where = Path(folder) / name
            paths = rewrite(files, order(files, spec), where, parts=parts, decoded_bytes=decoded, memory=memory)
            flat[name] = _measure_local(paths, decode=False)
    fan_out, histories, users = _distributions(settings, spec)
    gone = requests.rows - fan_out.count
    codecs = ", ".join(requests.codecs)
    layouts = (
        _layout("raw", raw, decoded, f"{', '.join(raw.codecs)}, the files as they were given"),
        _layout("time_order", flat["time_order"], decoded, SETTINGS),
        _layout("flat_sorted", flat["flat_sorted"], decoded, SETTINGS),
        _layout(
            "requests",
            dataclasses.replace(requests, rows=fan_out.count),
            sum(requests.decoded.values()),
            f"{codecs}, one row a request" + (DELETED.format(gone) if gone else ""),
        ),
    )
    advice = None
    if sample_bytes:
        progress("rewriting a sample of the table with other layouts")
        advice = layout_advice(table, spec.name, sum(requests.decoded.values()), sample_bytes=sample_bytes)
    snapshot = table.current_snapshot()
    return DedupReport(
        dataset=spec.name,
        snapshot_id=snapshot.snapshot_id if snapshot else None,
        raw_rows=raw.rows,
        requests=fan_out.count,
        candidates=fan_out.total,
        users=users,
        layouts=layouts,
        columns=pair_columns(spec, raw, flat["time_order"], flat["flat_sorted"], requests),
        factors=_factors(layouts),
        fan_out=fan_out,
        histories=histories,
        settings=f"Both flat layouts: {SETTINGS}; {parts} files each, as the request table has.",
        neighbours=_neighbours(layouts),
        seconds=time.perf_counter() - started,
        health=advise(table, spec.name, settings.maintenance),
        partitions=_partitions(table, settings),
        layout_advice=advice,
        costs=yearly_costs(
            {LABELS[key]: (m.file_bytes, m.decode_core_s) for key, m in (("raw", raw), ("requests", requests))},
            settings.prices,
        ),
    )


def _partitions(table: Table, settings: Settings) -> tuple[PartitionFigures, ...]:
    """The partitions in which a user's files are the most first."""
    found = partition_health(table, settings.maintenance) if table.current_snapshot() else []
    figures = (
        PartitionFigures(p.name, p.files, p.small_files, p.overlap_depth, p.deleted_rows) for p in found if p.files
    )
    return tuple(sorted(figures, key=lambda p: (-p.files_of_a_user, -p.small_files, p.name)))


LABELS = {
    "raw": "Raw log as it lies",
    "time_order": "In time order",
    "flat_sorted": "Sorted by user and request",
    "requests": "Request table",
}


def measure_table(table: Table) -> Measured:
    """The data files of a table's current snapshot."""
    tasks = table.scan().plan_files() if table.current_snapshot() else []
    return measure(
        [(t.file.file_path, t.file.file_size_in_bytes, table.io.new_input(t.file.file_path).open) for t in tasks],
        decode=True,
    )


def _measure_local(files: list[Path], *, decode: bool) -> Measured:
    return measure([(str(f), f.stat().st_size, partial(str, f)) for f in files], decode=decode)


def _layout(key: str, found: Measured, decoded: int, detail: str) -> Layout:
    return Layout(key, LABELS[key], detail, found.rows, found.files, found.file_bytes, decoded)


def _factors(layouts: tuple[Layout, ...]) -> tuple[Factor, ...]:
    *flat, requests = layouts
    on_disk = [Factor("bytes on disk", f.label, requests.label, f.file_bytes, requests.file_bytes) for f in flat]
    decoded = Factor(
        "bytes decoded", "Flat rows, in any order", requests.label, flat[0].decoded_bytes, requests.decoded_bytes
    )
    return (*on_disk, decoded)


def _neighbours(layouts: tuple[Layout, ...]) -> str:
    raw, ordered, flat, requests = layouts
    best = min(ordered, flat, key=lambda layout: layout.file_bytes)
    return (
        f"The same rows in time order, written with good settings, take {_against(ordered, raw)} bytes on disk than as "
        f"they lie: where neighbouring rows are alike, compression alone removes much of the repetition. Than the "
        f"smaller of the two flat layouts ({best.label.lower()}), the request table takes {_against(requests, best)} "
        f"bytes on disk. What no file compression lowers is the decoded size, which every reader and every GPU pays."
    )


def _against(layout: Layout, baseline: Layout) -> str:
    few, many = sorted((max(layout.file_bytes, 1), max(baseline.file_bytes, 1)))
    return f"{many / few:.1f} times {'fewer' if layout.file_bytes <= baseline.file_bytes else 'more'}"


def _distributions(settings: Settings, spec: DatasetSpec) -> tuple[Distribution, dict[str, Distribution], int]:
    from lakehouse import sql

    table = spec.table("requests")

    def lengths(column: str) -> Distribution:
        found = sql.query(
            settings,
            f"SELECT coalesce(cardinality({column}), 0) AS n, count(*) AS k FROM {table} GROUP BY 1 ORDER BY 1",
        )
        return distribution(found["n"].to_pylist(), found["k"].to_pylist())

    histories = {}
    for group in spec.sequences:
        first = next(c for c in spec.columns("sequence") if c.group == group)
        histories[group] = lengths(first.name)
    users = sql.query(settings, f"SELECT count(DISTINCT user_id) AS n FROM {table}")["n"][0].as_py()
    return lengths("item_id"), histories, users
