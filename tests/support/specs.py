"""Three datasets of different shapes.

feed   int64 ids, one timed history, partitions by day.
shop   string ids, an untimed history that may be empty, a position column, a row version.
video  vectors, two sequences (one timed), ragged candidate features, a label with its own time.
"""

from __future__ import annotations

from lakehouse.spec import DatasetSpec, parse_spec

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
            "embeddings": {"item": {"rows": 512, "dim": 8}, "category": {"rows": 4096, "dim": 4}},
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
