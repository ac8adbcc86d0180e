"""Labels with a time, one impression at a time: what stands after rows and label files in any order."""

from __future__ import annotations

import random
import struct
from datetime import timedelta
from typing import Any

import pyarrow as pa
import xxhash

from lakehouse.spec import DatasetSpec, parse_spec
from tests.spark_jobs.plain import features, plain_ingest, small_spec
from tests.spark_jobs.test_ingest_rules import SCHEMA, T0, log_of

Row = dict[str, Any]
LABELS = {"click": ("click_ts", "<f"), "rating": ("rated_ts", "<i")}
LOG = pa.schema([*SCHEMA, ("click_ts", pa.timestamp("us", "UTC")), ("rating", pa.int32())]).append(
    pa.field("rated_ts", pa.timestamp("us", "UTC"))
)
TOLD = pa.schema([LOG.field(name) for name in ("u", "r", "i", "click", "click_ts", "rating", "rated_ts")])


def labelled_spec(name: str, rule: str) -> DatasetSpec:
    told = small_spec(name, rule).model_dump(mode="json", exclude_defaults=True)
    told["labels"] = {
        "click": {"type": "float", "range": [0, 1], "time": "click_ts"},
        "rating": {"type": "int", "time": "rated_ts"},
    }
    return parse_spec(told | {"label_horizon": "7d"})


def labelled_log(seed: int) -> list[Row]:
    """Rows within their request's span; copies of a row may tell other labels."""
    draw = random.Random(seed)
    rows = [one | some_labels(draw) for one in log_of(seed)[:60]]
    for one in rows:
        if one["ts"] > T0 + timedelta(hours=6):
            one["ts"] -= timedelta(hours=5)
    return rows + [one | some_labels(draw) for one in draw.sample(rows, 10)]


def some_labels(draw: random.Random) -> Row:
    """A few times and values, so that they meet; some are missing."""

    def at() -> Any:
        return T0 + timedelta(days=draw.choice([0, 1, 1, 2, 9]), hours=draw.randint(0, 1))

    click, rating = draw.choice([None, 0.0, 1.0, 0.5]), draw.choice([None, None, 1, 2, 3])
    return {
        "click": click,
        "click_ts": None if click is None else at(),
        "rating": rating,
        "rated_ts": None if rating is None else at(),
    }


def label_rows(seed: int, rows: list[Row]) -> list[Row]:
    """Labels of some of the rows, and of impressions that never were."""
    draw = random.Random(seed + 1)
    told = [{name: one[name] for name in "uri"} | some_labels(draw) for one in draw.sample(rows, 25)]
    told += [{"u": draw.randint(1, 5), "r": draw.randint(1, 9), "i": 77} | some_labels(draw) for _ in range(3)]
    return [one for one in told if one["click"] is not None or one["rating"] is not None]


def plain_labelled(rows: list[Row], told: list[Row], spec: DatasetSpec) -> list[Row]:
    """The requests, with the greatest (time, hash) of each label over an impression's rows and label files."""
    sound = [one for one in rows if len(one["past_a"]) == len(one["past_b"])]
    requests, _, _ = plain_ingest([one | {"click": None} for one in rows], spec.conflict)
    for request in requests:
        mine = [one for one in sound if (one["u"], one["r"]) == (request["user_id"], request["request_id"])]
        if spec.conflict == "split":
            mine = [one for one in mine if features(one) == features(request)]
        late = [
            one | {label: None for label, (time, _) in LABELS.items() if not in_reach(one[time], request, spec)}
            for one in told
            if (one["u"], one["r"]) == (request["user_id"], request["request_id"])
        ]
        for label, (time, _) in LABELS.items():
            best = [
                max((rank(one, label) for one in (*mine, *late) if one["i"] == item), default=(False,))
                for item in request["item_id"]
            ]
            request[label] = [one[-1] if one[0] else None for one in best]
            request[f"{label}_time"] = [one[1] if one[0] else None for one in best]
            assert time in LOG.names
    return requests


def in_reach(at: Any, request: Row, spec: DatasetSpec) -> bool:
    return at is not None and -spec.request_span <= at - request["request_ts"] <= spec.label_horizon


def rank(one: Row, label: str) -> tuple[Any, ...]:
    """(whether it is told, time, hash, value)."""
    time, form = LABELS[label]
    if one[label] is None:
        return (False,)
    value = xxhash.xxh64_intdigest(struct.pack(form, one[label]), 42)
    return True, one[time], value - (1 << 64) if value >= 1 << 63 else value, one[label]
