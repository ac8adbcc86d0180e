"""Bytes of one log as flat rows in random order, in time order, sorted by user and request, and as the request table.

Each layout stands with its best of SETTINGS. The request table is the ingest job's own;
`rewritten` is the same rows through the flat layouts' writer, to tell what the level is worth from what the writer is.
Decoded bytes are those of Arrow, which is what a reader holds. Times are told elsewhere (`benchmarks.ingest`).
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich.progress import track

from benchmarks.report import arguments, machine, publish
from benchmarks.synthetic import CHUNK, Shape, SyntheticLog, long_history_spec, write_raw
from lakehouse.catalog import load_table, local_path, open_catalog
from lakehouse.settings import Settings, load_settings
from spark_jobs.ingest import run
from spark_jobs.session import build_session

LONG = ["history_item_id.list.element", "history_ts.list.element", "history_action.list.element"]
FEW = ["country", "hour"]
# Row groups of 4,096 flat rows are 80 MB decoded; of requests, as many bytes.
SETTINGS: dict[str, dict[str, Any]] = {
    "zstd 3, dictionary, 1 MB pages": {"compression_level": 3},
    "zstd 3, dictionary on few values, 1 MB pages": {"compression_level": 3, "use_dictionary": FEW},
    "zstd 3, dictionary on few values, 8 MB pages": {
        "compression_level": 3,
        "use_dictionary": FEW,
        "data_page_size": 8 << 20,
    },
    "zstd 9, dictionary on few values, 8 MB pages": {
        "compression_level": 9,
        "use_dictionary": FEW,
        "data_page_size": 8 << 20,
    },
    "zstd 3, delta on histories, 8 MB pages": {
        "compression_level": 3,
        "use_dictionary": FEW,
        "data_page_size": 8 << 20,
        "column_encoding": dict.fromkeys(LONG, "DELTA_BINARY_PACKED"),
    },
}


def write_all(folder: Path, layout: str, tables: Iterator[pa.Table], groups: int) -> tuple[dict[str, int], int, int]:
    """Write the tables with every setting, a row group each; file bytes by setting, rows, decoded bytes."""
    folder.mkdir(parents=True)
    paths = {name: folder / f"{i}.parquet" for i, name in enumerate(SETTINGS)}
    writers: dict[str, pq.ParquetWriter] = {}
    rows = decoded = 0
    with ExitStack() as stack:
        for table in track(tables, layout, total=groups, transient=True):
            for name, path in paths.items():
                if name not in writers:
                    writer = pq.ParquetWriter(path, table.schema, compression="zstd", **SETTINGS[name])
                    writers[name] = stack.enter_context(writer)
                writers[name].write_table(table, row_group_size=len(table))
            rows, decoded = rows + len(table), decoded + table.nbytes
    sizes = {name: path.stat().st_size for name, path in paths.items()}
    shutil.rmtree(folder)
    return sizes, rows, decoded


def sorted_tables(log: SyntheticLog) -> Iterator[pa.Table]:
    """The flat rows by user, request and position, in chunks: how request-sorted flat tables are published."""
    numbers = log.order("time")
    request = numbers // log.shape.fanout
    keys = pa.table({"user": log.user[request], "request": request, "at": log.shown(numbers), "row": numbers})
    order = keys.sort_by([("user", "ascending"), ("request", "ascending"), ("at", "ascending")])["row"].to_numpy()
    for start in range(0, len(order), CHUNK):
        yield log.table(order[start : start + CHUNK])


def ingested(settings: Settings, shape: Shape) -> list[Path]:
    """Data files of the request table that the ingest job makes of the log."""
    raw, spec = settings.home / "raw", long_history_spec("storage")
    write_raw(raw, shape, "time")
    run(build_session(settings), settings, spec, [str(raw)])
    shutil.rmtree(raw)
    table = load_table(open_catalog(settings), spec.table("requests"), settings)
    return [local_path(task.file.file_path) for task in table.scan().plan_files()]


def request_tables(paths: list[Path]) -> Iterator[pa.Table]:
    """The rows of the request table, about as many decoded bytes at a time as a chunk of flat rows."""
    for path in sorted(paths):
        yield from (pa.Table.from_batches([batch]) for batch in pq.ParquetFile(path).iter_batches(CHUNK))


def main() -> None:
    """Write every layout, print, write the JSON."""
    given = arguments("storage", __doc__ or "")
    shape = Shape(requests=100, history=64) if given.quick else Shape(requests=4800)
    log, home = SyntheticLog(shape), Path(tempfile.mkdtemp(prefix="reqlake-bench-"))
    rows: list[dict[str, Any]] = []
    try:
        groups = -(-log.rows // CHUNK)
        layouts = {
            "flat, random order": log.tables("random"),
            "flat, time order": log.tables("time"),
            "flat, sorted by user and request": sorted_tables(log),
        }
        for layout, tables in layouts.items():
            sizes, count, decoded = write_all(home / "flat", layout, tables, groups)
            rows += [
                {
                    "layout": layout,
                    "setting": setting,
                    "rows": count,
                    "file_mb": size / 1e6,
                    "decoded_mb": decoded / 1e6,
                }
                for setting, size in sizes.items()
            ]
        paths = ingested(load_settings(home=home / "lake"), shape)
        stored = sum(path.stat().st_size for path in paths)
        sizes, count, decoded = write_all(home / "flat", "requests", request_tables(paths), len(paths))
        told = {"rows": count, "decoded_mb": decoded / 1e6}
        rows.append({"layout": "request table", "setting": "as ingest writes it", "file_mb": stored / 1e6, **told})
        for setting, size in sizes.items():
            rows.append({"layout": "request table, rewritten", "setting": setting, "file_mb": size / 1e6, **told})
    finally:
        shutil.rmtree(home, ignore_errors=True)
    publish(
        "storage",
        machine=machine("pyspark", "pyarrow", "pyiceberg"),
        settings={"shape": vars(shape), "settings": list(SETTINGS)},
        rows=rows,
        ratios=ratios(rows, shape.fanout),
        out=given.out,
    )


def ratios(rows: list[dict[str, Any]], fanout: int) -> dict[str, float]:
    """Each flat layout at its best over the request table as ingest writes it."""

    def best(layout: str) -> dict[str, Any]:
        return min((row for row in rows if row["layout"] == layout), key=lambda row: row["file_mb"])

    table, unsorted = best("request table"), best("flat, random order")
    return {
        "flat_unsorted_over_request": unsorted["file_mb"] / table["file_mb"],
        "flat_time_order_over_request": best("flat, time order")["file_mb"] / table["file_mb"],
        "flat_sorted_over_request": best("flat, sorted by user and request")["file_mb"] / table["file_mb"],
        "ingest_over_best_rewrite": table["file_mb"] / best("request table, rewritten")["file_mb"],
        "decoded_gain_over_fanout": unsorted["decoded_mb"] / table["decoded_mb"] / fanout,
    }


if __name__ == "__main__":
    main()
