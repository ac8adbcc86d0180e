"""The raw log typed by the spec: what is mapped, converted, hashed, and what is refused by name."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import xxhash

from lakehouse.errors import RawDataError, SpecError
from lakehouse.spec import DatasetSpec, parse_spec
from lakehouse.spec.match import mismatches
from spark_jobs import raw
from spark_jobs.files import RawFile
from spark_jobs.mapping import mapping
from spark_jobs.raw import read_raw

pytestmark = pytest.mark.spark
T = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)


def spec_of(**parts: Any) -> Any:
    keys = {"user_id": "u", "request_id": "r", "request_ts": "t", "item_id": "i"} | parts.pop("keys", {})
    return parse_spec({"name": "raw", "keys": keys, "labels": {"click": "float"}} | parts)


def raw_of(**columns: Any) -> pa.Table:
    base = {
        "u": pa.array([1, 2]),
        "r": pa.array([10, 20]),
        "t": pa.array([T, T], pa.timestamp("us", "UTC")),
        "i": pa.array([7, 8]),
        "click": pa.array([0.0, 1.0], pa.float32()),
    }
    return pa.table({k: v for k, v in (base | columns).items() if v is not None})


def string_id(text: str) -> int:
    value = xxhash.xxh64_intdigest(text.encode(), 42)
    return value - (1 << 64) if value >= 1 << 63 else value


def test_times_by_unit_and_zone(spark: Any, write: Any) -> None:
    naive = pa.array([T.replace(tzinfo=None)] * 2, pa.timestamp("us"))
    cases = {
        "zone": ({"column": "t", "zone": "Europe/Berlin"}, naive, T - timedelta(hours=1)),
        "s": ({"column": "t", "unit": "s"}, pa.array([int(T.timestamp())] * 2), T.replace(microsecond=0)),
        "us": ({"column": "t", "unit": "us"}, pa.array([1_000_001] * 2), datetime(1970, 1, 1, 0, 0, 1, 1, UTC)),
    }
    for name, (column, values, wanted) in cases.items():
        frame = read_raw(spark, spec_of(keys={"request_ts": column}), [write(raw_of(t=values), name)])
        got = frame.selectExpr("unix_micros(request_ts) AS x").first()["x"]
        assert got == (wanted - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1), name


def test_string_ids_fallbacks_and_dotted_paths(spark: Any, write: Any) -> None:
    events = pa.array([[{"id": 5, "at": {"sec": 1}}, {"id": None, "at": {"sec": 2}}], None])
    raw = raw_of(
        u=pa.array(["ü", None]), device=pa.array([3, 4]), events=events, ctx=pa.array([{"hour": 1}, {"hour": 2}])
    )
    spec = spec_of(
        keys={"user_id": {"column": "u", "type": "string", "fallback": ["device"]}},
        request_features={"hour": {"type": "long", "column": "ctx.hour"}},
        sequences={
            "h": {
                "fields": {
                    "id": {"type": "long", "column": "events.id"},
                    "sec": {"type": "timestamp", "unit": "s", "column": "events.at.sec"},
                }
            }
        },
    )
    rows = read_raw(spark, spec, [write(raw)]).orderBy("item_id").collect()
    assert [r["user_id"] for r in rows] == [string_id("ü"), string_id("device:4")]
    assert [r["user_id_raw"] for r in rows] == ["ü", "device:4"]
    assert [(r["hour"], r["h_id"]) for r in rows] == [(1, [5, None]), (2, None)]
    assert len(rows[0]["h_sec"]) == 2
    assert rows[0]["_file"].endswith(".parquet")
    assert [r["_row"] for r in rows] == [0, 0], "one row in each of two files"


def test_request_by_expression_and_by_gap(spark: Any, write: Any) -> None:
    shown = [T + timedelta(minutes=m) for m in (0, 20, 45, 200)]
    raw = pa.table(
        {
            "u": [1, 1, 1, 1],
            "t": pa.array(shown, pa.timestamp("us", "UTC")),
            "i": [1, 2, 3, 4],
            "click": pa.array([1.0] * 4, pa.float32()),
        }
    )
    by_gap = spec_of(keys={"request_id": {"gap": "30m"}, "impression_ts": "t"})
    ids = [r["request_id"] for r in read_raw(spark, by_gap, [write(raw)]).orderBy("item_id").collect()]
    assert ids[0] == ids[1] == ids[2] != ids[3]
    by_expression = spec_of(keys={"request_id": {"expression": "u * 100 + hour(t)"}})
    ids = [r["request_id"] for r in read_raw(spark, by_expression, [write(raw)]).orderBy("item_id").collect()]
    assert ids[:3] == [103, 103, 103]
    with pytest.raises(SpecError, match="expression 'nowhere"):
        read_raw(spark, spec_of(keys={"request_id": {"expression": "nowhere + 1"}}), [write(raw)])


def test_casts_that_lose_a_value_are_told_by_row(spark: Any, write: Any) -> None:
    raw = raw_of(click=pa.array([1, 2**24 + 1]), hour=pa.array([5, 2**40]), ids=pa.array([[1], [2**40, 1]]))
    spec = spec_of(request_features={"hour": "int", "ids": "list<int>"})
    rows = read_raw(spark, spec, [write(raw)]).orderBy("item_id").collect()
    assert (rows[0]["click"], rows[0]["hour"], rows[0]["ids"]) == (1.0, 5, [1])
    assert [r["_lossy_row"] for r in rows] == [None, "click"]
    assert [r["_lossy_request"] for r in rows] == [None, "hour"]


@pytest.mark.parametrize(
    ("columns", "spec", "says"),
    [
        ({"t": pa.array([T] * 2, pa.timestamp("ns", "UTC"))}, {}, "column t holds nanosecond times.*microseconds"),
        ({"x": pa.array([[T]] * 2, pa.list_(pa.timestamp("ns")))}, {}, "column x holds nanosecond"),
        ({"t": pa.array([T.replace(tzinfo=None)] * 2, pa.timestamp("us"))}, {}, "column t is timestamp.*zone: UTC"),
        ({"t": pa.array([1, 2])}, {}, "column t is int64.*unit: ms"),
        ({"click": None}, {}, "has no column click"),
        ({"click": pa.array([1.0, 2.0])}, {}, "column click is double.*declare it as double"),
        ({"u": pa.array(["a", "b"])}, {}, "column u is string.*declare it as string"),
        ({"x": pa.array([1, 2])}, {"request_features": {"x": "list<long>"}}, "column x is int64.*needs a list"),
        ({"x": pa.array([[1], [2]])}, {"request_features": {"x": "long"}}, "column x is list.*declare it as a list"),
        ({}, {"request_features": {"cliks": "long"}}, "no column cliks.*Did you mean 'click'"),
    ],
)
def test_what_does_not_fit_is_refused_by_file_and_column(
    columns: dict[str, Any], spec: dict[str, Any], says: str, spark: Any, write: Any
) -> None:
    folder = write(raw_of(**columns))
    with pytest.raises(RawDataError, match=says) as error:
        read_raw(spark, spec_of(**spec), [folder])
    assert folder in str(error.value)


def test_a_column_of_two_types_is_refused(spark: Any, write: Any) -> None:
    folder = write(raw_of(), "a", files=1)
    other = write(raw_of(click=pa.array([1, 0])), "b", files=1)
    with pytest.raises(RawDataError, match=r"column click .* is int64 in .*b-0.parquet, but float in .*a-0.parquet"):
        read_raw(spark, spec_of(), [folder, other])


RAW_TYPES = [
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float", "double", "string", "large_string", "date32", "binary"),
    *(pa.timestamp("us", "UTC"), pa.timestamp("us"), pa.timestamp("ns", "UTC"), pa.decimal128(10, 2)),
]


@pytest.mark.usefixtures("spark")
def test_spec_check_and_the_job_accept_the_same_types(tmp_path: Path) -> None:
    """`spec check --raw` answers without Spark, by rules of its own."""
    elements = ("bool", "int", "long", "float", "double", "string", "timestamp")
    specs = {text: spec_of(request_features={"x": text}) for e in elements for text in (e, f"list<{e}>")}
    apart = []
    for name in RAW_TYPES:
        element = pa.type_for_alias(name) if isinstance(name, str) else name
        for kind in (element, pa.list_(element)):
            schema = raw_of().schema.append(pa.field("x", kind))
            file = RawFile(str(tmp_path / "x.parquet"), 1, "", 1, schema)
            for text, spec in specs.items():
                fits = not mismatches(spec, schema)
                if fits != _reads(spec, file):
                    apart.append(f"{kind} as {text}: spec check says {fits}")
    assert apart == []


def _reads(spec: DatasetSpec, file: RawFile) -> bool:
    try:
        raw._refuse_nanoseconds(file)
        mapping(spec, [file], wide=True)
    except RawDataError:
        return False
    return True
