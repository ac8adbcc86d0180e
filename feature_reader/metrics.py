"""A reader's statistics as Prometheus metrics."""

from __future__ import annotations

from feature_reader.stats import ReaderStats
from lakehouse.exposition import Family, exposition

STAGES = ("plan", "wait", "read", "decode", "collate", "copy")
COUNTERS = {
    "units": ("units", "Row groups read whole."),
    "slices": ("slices", "Parts of row groups that the memory bound cannot hold."),
    "read_bytes": ("read_bytes", "Bytes of the row groups read, as they lie in their files."),
    "decoded_bytes": ("decoded_bytes", "Bytes of the arrays that were decoded."),
    "copied_bytes": ("copied_bytes", "Bytes copied to the device."),
    "cache_hits": ("cache_hits", "Reads of units that the disk cache had."),
    "cache_misses": ("cache_misses", "Reads of units that the disk cache keeps and did not have yet."),
    "cache_damaged": ("cache_damaged", "Entries of the disk cache that had changed since they were written."),
    "cache_written_bytes": ("cache_written_bytes", "Bytes written to the disk cache."),
    "steps": ("steps", "Batches given."),
    "requests": ("requests", "Requests given, padding included."),
    "candidates": ("candidates", "Candidates given."),
    "padding": ("padding_requests", "Requests without weight that evened out the ranks' steps."),
    "dropped": ("dropped_requests", "Requests that the tail left out."),
    "wrapped": ("wrapped_requests", "Requests that the tail gave twice."),
    "few_users": ("few_users_batches", "Batches with fewer users than min_users_per_batch."),
    "bad_requests": ("bad_requests", "Requests that batches lack because they cannot be read."),
}
GAUGES = {
    "first_batch_s": ("first_batch_seconds", "Seconds to the first batch of the latest iteration."),
    "queue_batches": ("queue_batches", "Batches that wait for the loop."),
    "peak_held_bytes": ("peak_held_bytes", "Most bytes that units and batches in flight have held."),
}


def reader_metrics(stats: ReaderStats, **labels: str) -> list[Family]:
    """The families of one reader; `labels` tell it from others (`reader_metrics(stats, dataset="movielens")`)."""
    values = stats.as_dict()
    stages = tuple(({**labels, "stage": stage}, values[f"{stage}_s"]) for stage in STAGES)
    return [
        Family(
            "reqlake_reader_stage_seconds_total",
            "counter",
            "Seconds of each stage; read, decode and collate add up over threads, wait is the loop's.",
            stages,
        ),
        *(
            Family(f"reqlake_reader_{name}_total", "counter", text, ((labels, values[field]),))
            for field, (name, text) in COUNTERS.items()
        ),
        *(
            Family(f"reqlake_reader_{name}", "gauge", text, ((labels, values[field]),))
            for field, (name, text) in GAUGES.items()
        ),
    ]


def reader_exposition(stats: ReaderStats, **labels: str) -> str:
    """The metrics of one reader as the text that Prometheus scrapes."""
    return exposition(reader_metrics(stats, **labels))
