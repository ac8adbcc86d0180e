"""The demo's figures as a benchmark result: `python -m benchmarks.demo`, after `make demo`.

Takes what the run wrote into `build/demo/summary.json`; measures nothing itself.
"""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.report import arguments, machine, publish

SUMMARY = Path("build/demo/summary.json")

if __name__ == "__main__":
    given = arguments("demo", __doc__ or "")
    summary = json.loads(SUMMARY.read_text(encoding="utf-8"))
    table = summary["table_bytes"]
    ratios = {
        "raw_over_request": summary["raw_bytes"] / table,
        "time_order_over_request": summary["raw_bytes_time_order"] / table,
        "flat_sorted_over_request": summary["flat_sorted_bytes"] / table,
        "decoded_gain": summary["decoded_factor"],
        "auc_over_best_baseline": summary["auc"] - max(summary["baseline_auc"].values()),
    }
    bytes_of = {key: summary[key] for key in ("raw_bytes", "raw_bytes_time_order", "flat_sorted_bytes", "table_bytes")}
    publish(
        "demo",
        machine=machine("pyspark", "pyarrow", "torch"),
        settings={"dataset": "movielens", "summary": summary},
        rows=[{"layout": name, "bytes": size} for name, size in bytes_of.items()],
        ratios=ratios,
        out=given.out,
    )
