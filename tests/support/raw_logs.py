"""Clean raw logs of the three datasets, deterministic in the seed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from lakehouse.spec import DatasetSpec

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)


def raw_log(
    spec: DatasetSpec,
    users: int = 20,
    requests_per_user: int = 3,
    fanout: int = 5,
    history: int = 8,
    seed: int = 0,
) -> pa.Table:
    """A clean raw log: one row per impression, every request feature repeated, rows in random order.

    Fan-out is 1 to 2·fanout-1, history lengths 0 to `history`; requests are hours apart and cross midnight.
    """
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for user in range(1, users + 1):
        events = sorted(T0 + timedelta(minutes=int(m)) for m in rng.integers(-4000, 4000, 3 * history))
        for visit in range(requests_per_user):
            at = T0 + timedelta(hours=7 * visit, minutes=int(rng.integers(0, 60)))
            past = [e for e in events if e < at][-int(rng.integers(0, history + 1)) or len(events) :]
            make = {"feed": _feed, "shop": _shop, "video": _video}[spec.name]
            rows += make(rng, user, user * 1000 + visit, at, past, int(rng.integers(1, 2 * fanout)))
    order = rng.permutation(len(rows))
    return pa.Table.from_pylist([rows[i] for i in order], schema=RAW_SCHEMAS[spec.name])


def _feed(
    rng: np.random.Generator, user: int, request: int, at: datetime, past: list[datetime], n: int
) -> list[dict[str, Any]]:
    shared = {
        "uid": user,
        "rid": request,
        "opened_at": at,
        "country": [None, "de", "fr", "in"][int(rng.integers(4))],
        "hour": at.hour,
        "score": None if rng.random() < 0.1 else float(np.float32(rng.normal())),
        "history_item_id": [int(i) for i in rng.integers(1, 400, len(past))],
        "history_action": [int(i) for i in rng.integers(0, 6, len(past))],
        "history_ts": past,
    }
    items = rng.choice(400, n, replace=False)
    return [
        shared
        | {
            "iid": int(item) + 1,
            "shown_at": int(at.timestamp() * 1000) + int(rng.integers(0, 3)),
            "price": None if rng.random() < 0.1 else float(np.float32(rng.uniform(0, 100))),
            "category": int(item) % 30,
            "click": float(rng.random() < 0.3),
        }
        for item in items
    ]


def _shop(
    rng: np.random.Generator, user: int, request: int, at: datetime, past: list[datetime], n: int
) -> list[dict[str, Any]]:
    shared = {
        "customer": f"kunde-ü{user}",
        "visit": f"v{request}",
        "visit_time": int(at.timestamp()),
        "loyal": bool(rng.random() < 0.5),
        "basket": [f"s{int(i)}" for i in rng.integers(0, 50, int(rng.integers(0, 4)))],
        "bought_sku": [f"s{int(i)}" for i in rng.integers(0, 50, len(past))],
        "bought_price": [float(np.float32(p)) for p in rng.uniform(1, 9, len(past))],
    }
    return [
        shared
        | {
            "sku": f"s{int(rng.integers(0, 50))}",  # the same item may be shown twice
            "slot": 10 * slot,
            "version": int(rng.integers(0, 3)),
            "sku_price": float(rng.uniform(1, 9)),
            "brand": [None, "", "acme", "zeta"][int(rng.integers(4))],
            "ordered": None if rng.random() < 0.2 else float(rng.random() < 0.2),
        }
        for slot in range(n)
    ]


def _video(
    rng: np.random.Generator, user: int, request: int, at: datetime, past: list[datetime], n: int
) -> list[dict[str, Any]]:
    floats = lambda size: [float(np.float32(x)) for x in rng.normal(size=size)]  # noqa: E731
    shared = {
        "viewer": -user,
        "session": request,
        "t": at.replace(tzinfo=None),
        "taste": floats(4),
        "device": ["tv", "phone"][int(rng.integers(2))],
        "watched_clip": [int(i) for i in rng.integers(1, 300, len(past))],
        "watched_seconds": floats(len(past)),
        "watched_at": [int(e.timestamp() * 1_000_000) for e in past],
        "searched_term": None
        if rng.random() < 0.1
        else [f"t{int(i)}" for i in rng.integers(0, 9, int(rng.integers(0, 4)))],
    }
    return [
        shared
        | {
            "clip": int(clip) + 1,
            "look": floats(3),
            "tags": [int(i) for i in rng.integers(0, 40, int(rng.integers(0, 5)))],
            "words": None
            if rng.random() < 0.1
            else [f"w{int(i)}" for i in rng.integers(0, 9, int(rng.integers(0, 3)))],
            "length": int(rng.integers(5, 600)),
            "finished": None if clip % 3 == 0 else float(clip % 2),
            "finished_at": None if clip % 3 == 0 else int(at.timestamp() * 1000) + 60_000,
            "watch_seconds": float(np.float32(rng.uniform(0, 500))),
        }
        for clip in rng.choice(300, n, replace=False)
    ]


F, L, S, N, D = pa.float32(), pa.int64(), pa.string(), pa.int32(), pa.float64()
RAW_SCHEMAS: dict[str, pa.Schema] = {
    "feed": pa.schema(
        {
            "uid": L,
            "rid": L,
            "opened_at": pa.timestamp("us", "UTC"),
            "country": S,
            "hour": N,
            "score": F,
            "history_item_id": pa.list_(L),
            "history_action": pa.list_(N),
            "history_ts": pa.list_(pa.timestamp("us", "UTC")),
            "iid": L,
            "shown_at": L,
            "price": F,
            "category": N,
            "click": F,
        }
    ),
    "shop": pa.schema(
        {
            "customer": S,
            "visit": S,
            "visit_time": L,
            "loyal": pa.bool_(),
            "basket": pa.list_(S),
            "bought_sku": pa.list_(S),
            "bought_price": pa.list_(F),
            "sku": S,
            "slot": N,
            "version": L,
            "sku_price": D,
            "brand": S,
            "ordered": F,
        }
    ),
    "video": pa.schema(
        {
            "viewer": L,
            "session": L,
            "t": pa.timestamp("us"),
            "taste": pa.list_(F),
            "device": S,
            "watched_clip": pa.list_(L),
            "watched_seconds": pa.list_(F),
            "watched_at": pa.list_(L),
            "searched_term": pa.list_(S),
            "clip": L,
            "look": pa.list_(F),
            "tags": pa.list_(L),
            "words": pa.list_(S),
            "length": N,
            "finished": F,
            "finished_at": L,
            "watch_seconds": F,
        }
    ),
}
