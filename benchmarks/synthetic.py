"""Deterministic raw logs with long histories: what a label join leaves where requests carry 1,024 events.

A request's 24 impressions repeat its whole history; histories of one user's requests overlap but for the events in
between. `time` order lays the rows as they happened (a request's rows lie close together), `random` order as a hash
partitioned store would. One row is about 20 KB decoded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.spec import DatasetSpec, parse_spec

START = 1_770_000_000_000_000  # microseconds
ITEMS = 1_000_000
CHUNK = 4096  # rows of a row group: about 80 MB decoded
VECTOR = 16


@dataclass(frozen=True)
class Shape:
    """How much to make. `conflicts` is the share of requests one of whose rows disagrees on the history."""

    requests: int = 2500
    fanout: int = 24
    history: int = 1024
    requests_per_user: int = 10
    between: int = 32
    seed: int = 0
    conflicts: float = 0.0


def long_history_spec(name: str = "synthetic", buckets: int = 4) -> DatasetSpec:
    """The spec of these logs."""
    return parse_spec(
        {
            "name": name,
            "namespace": "bench",
            "keys": {
                "user_id": "user_id",
                "request_id": "request_id",
                "request_ts": "request_ts",
                "item_id": "item_id",
                "impression_ts": "impression_ts",
            },
            "request_features": {
                "country": "string",
                "hour": {"type": "int", "range": [0, 23]},
                "taste": f"vector<float, {VECTOR}>",
            },
            "sequences": {
                "history": {
                    "time": "ts",
                    "fields": {
                        "item_id": {"type": "long", "embedding": "item", "candidate": "item_id"},
                        "ts": "timestamp",
                        "action": {"type": "int", "range": [0, 9]},
                    },
                }
            },
            "candidate_features": {"price": {"type": "float", "range": [0, 1000]}},
            "labels": {"click": {"type": "float", "range": [0, 1]}},
            "embeddings": {"item": {"rows": 65536, "dim": 16}},
            "partition": {"buckets": buckets},
        }
    )


class SyntheticLog:
    """A log of one shape: every row is a function of its number, so any order and any part can be made."""

    def __init__(self, shape: Shape) -> None:
        self.shape = s = shape
        rng = np.random.default_rng(s.seed)
        self.users = -(-s.requests // s.requests_per_user)
        events = s.history + s.requests_per_user * s.between
        self.items = (ITEMS * rng.power(0.3, (self.users, events))).astype(np.int64)
        gaps = rng.integers(1, 7200, (self.users, events)) * 1_000_000
        self.times = START - gaps[:, ::-1].cumsum(axis=1)[:, ::-1]
        self.actions = rng.integers(0, 10, (self.users, events)).astype(np.int32)
        self.taste = rng.normal(size=(s.requests, VECTOR)).astype(np.float32)
        # Requests of a user follow each other, `between` events apart; their times are those of the streams.
        turn, self.user = np.divmod(np.arange(s.requests), self.users)
        self.end = s.history + turn * s.between
        self.opened = self.times[self.user, self.end - 1] + 1
        self.changed = rng.random(s.requests) < s.conflicts

    @property
    def rows(self) -> int:
        """Rows of the log."""
        return self.shape.requests * self.shape.fanout

    def order(self, order: Literal["time", "random"]) -> np.ndarray:
        """Row numbers in the order of the log."""
        if order == "random":
            return np.random.default_rng(self.shape.seed + 1).permutation(self.rows)
        return np.argsort(self.shown(np.arange(self.rows)), kind="stable")

    def shown(self, rows: np.ndarray) -> np.ndarray:
        """Time of each impression: a tenth of a second after the one before it."""
        request, slot = np.divmod(rows, self.shape.fanout)
        return self.opened[request] + slot * 100_000

    def table(self, rows: np.ndarray) -> pa.Table:
        """The given rows, in the given order."""
        s = self.shape
        request, slot = np.divmod(rows, s.fanout)
        user = self.user[request]
        place = self.end[request][:, None] + np.arange(-s.history, 0)[None, :]
        history = self.items[user[:, None], place]
        history[self.changed[request] & (slot == s.fanout - 1), 0] += 1
        mixed = (rows.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        return pa.table(
            {
                "user_id": (user + 1).astype(np.int64),
                "request_id": (request + 1).astype(np.int64),
                "request_ts": _times(self.opened[request]),
                "country": pa.array(np.array(["de", "fr", "in", "us"])[user % 4]),
                "hour": ((self.opened[request] // 3_600_000_000) % 24).astype(np.int32),
                "taste": _lists(pa.array(self.taste[request].ravel()), len(rows)),
                "history_item_id": _lists(pa.array(history.ravel()), len(rows)),
                "history_ts": _lists(_times(self.times[user[:, None], place].ravel()), len(rows)),
                "history_action": _lists(pa.array(self.actions[user[:, None], place].ravel()), len(rows)),
                "item_id": ((mixed >> np.uint64(33)) % np.uint64(ITEMS)).astype(np.int64) * s.fanout + slot,
                "impression_ts": _times(self.shown(rows)),
                "price": (((mixed >> np.uint64(20)) % np.uint64(1000)).astype(np.float32)),
                "click": ((mixed >> np.uint64(40)) % np.uint64(10) == 0).astype(np.float32),
            }
        )

    def tables(self, order: Literal["time", "random"]) -> Iterator[pa.Table]:
        """The whole log in chunks of 4,096 rows."""
        numbers = self.order(order)
        for start in range(0, len(numbers), CHUNK):
            yield self.table(numbers[start : start + CHUNK])


def write_raw(folder: Path, shape: Shape, order: Literal["time", "random"], files: int = 8) -> list[Path]:
    """Write the log as zstd Parquet files of whole row groups; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    log = SyntheticLog(shape)
    numbers = log.order(order)
    paths = []
    for i, part in enumerate(np.array_split(numbers, files)):
        path = folder / f"part-{i:03d}.parquet"
        writer = None
        for start in range(0, len(part), CHUNK):
            table = log.table(part[start : start + CHUNK])
            writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
            writer.write_table(table)
        if writer is not None:
            writer.close()
            paths.append(path)
    return paths


def _times(micros: np.ndarray) -> pa.Array:
    return pa.array(micros.astype(np.int64)).cast(pa.timestamp("us", "UTC"))


def _lists(values: pa.Array, rows: int) -> pa.Array:
    size = len(values) // rows if rows else 0
    return pa.ListArray.from_arrays(pa.array(np.arange(rows + 1, dtype=np.int32) * size), values)
