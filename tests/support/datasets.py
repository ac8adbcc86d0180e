"""Three datasets of different shapes, clean raw logs for them, and a plain deduplication to compare with.

feed   int64 ids, one timed history, partitions by day.
shop   string ids, an untimed history that may be empty, a position column, a row version.
video  vectors, two sequences (one timed), ragged candidate features, a label with its own time.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from lakehouse.catalog import open_catalog
from lakehouse.schema import arrow_schema, ensure_request_table
from lakehouse.settings import Settings
from lakehouse.spec import Column, DatasetSpec, parse_spec

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)

SPECS: dict[str, DatasetSpec] = {
    "feed": parse_spec(
        {
            "name": "feed",
            "keys": {
                "user_id": "uid",
                "request_id": "rid",
                "request_ts": "opened_at",
                "item_id": "iid",
                "impression_ts": {"column": "shown_at", "unit": "ms"},
            },
            "request_features": {
                "country": "string",
                "hour": {"type": "int", "range": [0, 23]},
                "score": "float",
            },
            "sequences": {
                "history": {
                    "time": "ts",
                    "max_length": 64,
                    "fields": {
                        "item_id": {"type": "long", "embedding": "item", "candidate": "item_id"},
                        "action": {"type": "int", "range": [0, 5]},
                        "ts": "timestamp",
                    },
                }
            },
            "candidate_features": {
                "price": {"type": "float", "range": [0, 1000]},
                "category": {"type": "int", "embedding": "category"},
            },
            "labels": {"click": {"type": "float", "range": [0, 1]}},
            "embeddings": {"item": {"rows": 512, "dim": 8}, "category": {"rows": 32, "dim": 4}},
            "partition": {"grain": "day", "buckets": 2},
        }
    ),
    "shop": parse_spec(
        {
            "name": "shop",
            "keys": {
                "user_id": {"column": "customer", "type": "string", "sensitive": True},
                "request_id": {"column": "visit", "type": "string"},
                "request_ts": {"column": "visit_time", "unit": "s"},
                "item_id": {"column": "sku", "type": "string"},
                "position": "slot",
                "row_version": "version",
            },
            "impression_key": "position",
            "request_features": {"loyal": "bool", "basket": {"type": "list<string>", "embedding": "sku"}},
            "sequences": {
                "bought": {
                    "fields": {
                        "sku": {"type": "string", "embedding": "sku", "candidate": "item_id"},
                        "price": "float",
                    }
                }
            },
            "candidate_features": {
                "price": {"type": "double", "column": "sku_price"},
                "brand": {"type": "string", "embedding": "brand"},
            },
            "labels": {"ordered": {"type": "float", "range": [0, 1]}},
            "embeddings": {"sku": {"rows": 512, "dim": 8}, "brand": {"rows": 32, "dim": 4}},
            "partition": {"grain": "none", "buckets": 3},
        }
    ),
    "video": parse_spec(
        {
            "name": "video",
            "keys": {
                "user_id": "viewer",
                "request_id": "session",
                "request_ts": {"column": "t", "zone": "UTC"},
                "item_id": "clip",
            },
            "request_features": {
                "taste": "vector<float, 4>",
                "device": {"type": "string", "embedding": "device"},
            },
            "sequences": {
                "watched": {
                    "time": "at",
                    "fields": {
                        "clip": {"type": "long", "embedding": "clip", "candidate": "item_id"},
                        "seconds": "float",
                        "at": {"type": "timestamp", "unit": "us"},
                    },
                },
                "searched": {
                    "order": "newest_first",
                    "fields": {"term": {"type": "string", "embedding": "term"}},
                },
            },
            "candidate_features": {
                "look": "vector<float, 3>",
                "tags": {"type": "list<long>", "embedding": "tag"},
                "words": "list<string>",
                "length": {"type": "int", "required": True},
            },
            "labels": {
                "finished": {
                    "type": "float",
                    "range": [0, 1],
                    "time": {"column": "finished_at", "unit": "ms"},
                },
                "watch_seconds": {"type": "float", "range": [0, 1e6]},
            },
            "embeddings": {n: {"rows": 256, "dim": 8} for n in ("clip", "device", "term", "tag")},
            "partition": {"grain": "month", "buckets": 2},
        }
    ),
}


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


def string_id(text: str) -> int:
    """A string id as the table holds it: xxhash64 of its UTF-8, seed 42, as signed int64."""
    value = xxhash.xxh64_intdigest(text.encode(), 42)
    return value - (1 << 64) if value >= 1 << 63 else value


def reference_requests(raw: pa.Table, spec: DatasetSpec) -> pa.Table:
    """Deduplicate a clean raw log in plain Python, one row at a time: the request table's rows, sorted by their key.

    Rows of one request that disagree on a request feature follow `split`. Hash and rank columns hold 0: leave them out
    of comparisons.
    """
    shared = spec.columns("request", "sequence")
    own = spec.columns("candidate", "label")
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    opened: dict[tuple[int, int], datetime] = {}
    for row in raw.to_pylist():
        key = (_id(row, spec.keys.user_id), _id(row, spec.keys.request_id))
        at = _time(row[spec.keys.request_ts.column], spec.keys.request_ts.unit)
        opened[key] = min(opened.get(key, at), at)
        groups[(*key, repr([row[c.raw] for c in shared]))].append(row)
    out = []
    for (user, request, _), rows in sorted(groups.items(), key=lambda kv: (kv[0][0], kv[0][1], kv[0][2])):
        first = rows[0]
        shown = sorted({repr(r): r for r in rows}.values(), key=lambda r: _place(r, spec))
        out.append(
            {
                "user_id": user,
                "request_id": request,
                "request_ts": opened[(user, request)],
                "request_hash": 0,
                "request_rank": 0,
            }
            | {
                f"{k}_raw": first[getattr(spec.keys, k).column]
                for k in ("user_id", "request_id")
                if _is_string(spec, k)
            }
            | {c.name: _value(first, c) for c in shared}
            | {"item_id": [_id(r, spec.keys.item_id) for r in shown]}
            | ({"item_id_raw": [r[spec.keys.item_id.column] for r in shown]} if _is_string(spec, "item_id") else {})
            | {"position": [r[spec.keys.position] if spec.keys.position else i for i, r in enumerate(shown)]}
            | ({"impression_ts": [_place(r, spec)[0] for r in shown]} if spec.keys.impression_ts else {})
            | {c.name: [_candidate(r, c, spec) for r in shown] for c in own}
            | {"candidate_rank": [0] * len(shown), "request_version": None, "candidate_version": None}
        )
    return pa.Table.from_pylist(out, schema=arrow_schema(spec))


def _is_string(spec: DatasetSpec, key: str) -> bool:
    return getattr(spec.keys, key).type == "string"


def _id(row: dict[str, Any], column: Any) -> int:
    value = row[column.column]
    return string_id(value) if column.type == "string" else value


def _time(value: Any, unit: str | None) -> datetime:
    if unit is None:
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(
        microseconds=value * {"s": 1_000_000, "ms": 1000, "us": 1}[unit]
    )


def _place(row: dict[str, Any], spec: DatasetSpec) -> tuple[Any, ...]:
    if spec.keys.position:
        return (row[spec.keys.position],)
    at = spec.keys.impression_ts
    return (_time(row[at.column], at.unit) if at else 0, _id(row, spec.keys.item_id))


def _value(row: dict[str, Any], column: Column) -> Any:
    value, unit = row[column.raw], column.feature.unit if column.feature else None
    return [_time(v, unit) for v in value] if unit and value is not None else value


def _candidate(row: dict[str, Any], column: Column, spec: DatasetSpec) -> Any:
    label = spec.labels.get(column.name.removesuffix("_time"))
    if column.role == "label" and label is not None and label.time is not None and column.name.endswith("_time"):
        value = row[label.time.column]
        return None if value is None else _time(value, label.time.unit)
    return row[column.raw]


def write_request_table(
    settings: Settings, spec: DatasetSpec, requests: pa.Table, files: int = 2, row_group: int = 64
) -> Any:
    """Append requests to the spec's table by PyIceberg alone, in `files` commits of row groups of `row_group` rows.

    A commit writes one file per partition it touches. Returns the PyIceberg table, refreshed.
    """
    table = ensure_request_table(open_catalog(settings), spec, settings)
    with table.transaction() as change:
        change.set_properties({"write.parquet.row-group-limit": str(row_group)})
    order = pc.sort_indices(requests, sort_keys=[("user_id", "ascending"), ("request_id", "ascending")])
    requests = requests.take(order)
    step = max(1, -(-len(requests) // files))
    for start in range(0, len(requests), step):
        table.append(requests.slice(start, step).cast(table.schema().as_arrow()))
    return table.refresh()
