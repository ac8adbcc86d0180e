"""The definitions of overview.md, "Merging", one row at a time, for a small spec whose ranks are its row versions."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from typing import Any

from lakehouse.spec import DatasetSpec, parse_spec

Row = dict[str, Any]


def small_spec(name: str, rule: str) -> DatasetSpec:
    return parse_spec(
        {
            "name": name,
            "keys": {
                "user_id": "u",
                "request_id": "r",
                "request_ts": "ts",
                "item_id": "i",
                "impression_ts": "shown",
                "row_version": "version",
            },
            "request_features": {"feature": "int", "tags": "list<long>"},
            "sequences": {"past": {"fields": {"a": "long", "b": "string"}}},
            "labels": {"click": {"type": "float", "range": [0, 1]}},
            "conflict": rule,
            "partition": {"buckets": 2},
        }
    )


FEATURES = ("feature", "tags", "past_a", "past_b")
CONTENT = ("ts", "i", "shown", "version", "click", *FEATURES)


def plain_ingest(rows: list[Row], rule: str) -> tuple[list[Row], list[tuple[str, str]], int]:
    """Requests, quarantined (reason, content), and the number of duplicates."""
    requests, quarantined, duplicates = [], [], 0
    by_request: dict[tuple[int, int], list[Row]] = defaultdict(list)
    unequal: list[Row] = []
    for row in rows:
        if row["click"] is not None and row["click"] > 1:
            quarantined.append(("label_out_of_range", content(row)))
        elif len(row["past_a"]) != len(row["past_b"]):
            unequal.append(row)
        else:
            by_request[row["u"], row["r"]].append(row)
    for row in unequal:
        # Of a row with two faults `split` tells the time's: it looks at the lists of rows that are in time.
        beside = by_request.get((row["u"], row["r"]), []) if rule == "split" else []
        is_late = bool(beside) and late(row, min(r["ts"] for r in beside))
        quarantined.append(("request_ts_conflict" if is_late else "list_length_mismatch", content(row)))
    for (user, request), members in by_request.items():
        opened = min(row["ts"] for row in members)
        quarantined += [("request_ts_conflict", content(r)) for r in members if late(r, opened)]
        members = [r for r in members if not late(r, opened)]  # noqa: PLW2901
        variants: dict[str, list[Row]] = defaultdict(list)
        for row in members:
            variants[features(row) if rule == "split" else ""].append(row)
        for variant in variants.values():
            kept = []
            for item in sorted({r["i"] for r in variant}):
                shown = {content(r): r for r in variant if r["i"] == item}
                duplicates += sum(r["i"] == item for r in variant) - len(shown)
                ranked = sorted(shown.values(), key=lambda r: place(r) if rule == "first" else r["version"])
                stays = ranked[0 if rule == "first" else -1]
                kept.append(stays)
                quarantined += [("impression_conflict", content(r)) for r in ranked if r is not stays]
            winner = min(variant, key=place) if rule == "first" else max(variant, key=lambda r: r["version"])
            kept.sort(key=lambda r: (r["shown"], r["i"]))
            requests.append(
                {"user_id": user, "request_id": request, "request_ts": opened}
                | {name: winner[name] for name in FEATURES}
                | {"item_id": [r["i"] for r in kept], "position": list(range(len(kept)))}
                | {"impression_ts": [r["shown"] for r in kept], "click": [r["click"] for r in kept]}
                | {"request_version": winner["version"], "candidate_version": [r["version"] for r in kept]}
            )
    return requests, sorted(quarantined), duplicates


def late(row: Row, opened: Any) -> bool:
    return row["ts"] > opened + timedelta(hours=6)


def place(row: Row) -> tuple[Any, ...]:
    return row["shown"], row["i"], row["version"]


def features(row: Row) -> str:
    return repr([row[name] for name in FEATURES])


def content(row: Row) -> str:
    return repr([row[name] for name in ("u", "r", *CONTENT)])
