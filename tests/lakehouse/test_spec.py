"""The dataset spec: what it refuses and how it says so, what it lays out, and that it reads back equal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml

from lakehouse.errors import FormatError, SpecError
from lakehouse.spec import DatasetSpec, FeatureType, dump_yaml, load_spec, parse_spec, spec_from_json
from tests.support.datasets import SPECS

MOVIELENS = Path(__file__).parents[2] / "reqlake" / "demo" / "movielens.yaml"
KEYS = {"user_id": "u", "request_id": "r", "request_ts": "t", "item_id": "i"}


def spec(**parts: Any) -> DatasetSpec:
    return parse_spec({"name": "x", "keys": KEYS} | parts)


def refusal(**parts: Any) -> str:
    with pytest.raises(SpecError) as caught:
        spec(**parts)
    return str(caught.value)


@pytest.mark.parametrize("name", SPECS)
def test_yaml_and_json_read_back_equal(name: str) -> None:
    assert parse_spec(yaml.safe_load(dump_yaml(SPECS[name]))) == SPECS[name]
    assert spec_from_json(SPECS[name].to_json()) == SPECS[name]
    assert spec_from_json(SPECS[name].to_json()).hash == SPECS[name].hash


def test_hash_sees_every_change() -> None:
    plain = spec(request_features={"a": "int"})
    assert plain.hash != spec(request_features={"a": "long"}).hash
    assert plain.hash != spec(request_features={"b": "int"}).hash
    assert plain.hash == spec(request_features={"a": {"type": "int", "required": False}}).hash


def test_movielens_spec_is_short_and_lays_out_parallel_lists() -> None:
    assert len(MOVIELENS.read_text(encoding="utf-8").splitlines()) < 60
    columns = {c.name: c for c in load_spec(MOVIELENS).columns()}
    assert columns["history_item_id"].arrow() == pa.list_(pa.int64())
    assert columns["genres"].arrow() == pa.list_(pa.list_(pa.string()))
    assert columns["like"].arrow() == pa.list_(pa.float32())
    assert columns["user_mean"].arrow() == pa.float32()


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("long", FeatureType("long")),
        ("list<string>", FeatureType("string", "list")),
        ("vector<float, 16>", FeatureType("float", "vector", 16)),
    ],
)
def test_types_read_and_write(text: str, kind: FeatureType) -> None:
    assert FeatureType.parse(text) == kind
    assert str(kind) == text


@pytest.mark.parametrize("text", ["lng", "list<list<int>>", "vector<float>", "vector<float, 0>", "map<int, int>", ""])
def test_unknown_types_are_named(text: str) -> None:
    assert f"{text!r}" in refusal(request_features={"a": text})


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ({"labls": {}}, "labls: unknown field. Did you mean 'labels'?"),
        ({"labels": {"a": {"type": "int", "rnge": [0, 1]}}}, "labels.a.rnge: unknown field. Did you mean 'range'?"),
        ({"request_features": {"Hour": "int"}}, "a name is lower case"),
        ({"request_features": {"a": {"type": "string", "range": [0, 1]}}}, "string has no order"),
        ({"request_features": {"a": {"type": "int", "range": [2, 1]}}}, "is empty"),
        ({"request_features": {"user_id": "int"}}, "two columns would be named 'user_id'"),
        ({"request_features": {"a": {"type": "float", "embedding": "e"}}}, "is not an id"),
        ({"labels": {"a": {"type": "int", "embedding": "itm"}}, "embeddings": {"item": {"rows": 4}}}, "mean 'item'"),
        ({"sequences": {"h": {"fields": {"x": "list<int>"}}}}, "write the element type alone"),
        ({"sequences": {"h": {"fields": {"x": "int"}, "time": "ts"}}}, "no field 'ts'"),
        ({"sequences": {"h": {"fields": {"ts": "long"}, "time": "ts"}}}, "not timestamp"),
        ({"sequences": {"h": {"fields": {"x": {"type": "int", "candidate": "itemid"}}}}}, "Did you mean 'item_id'?"),
        ({"labels": {"y": "string"}}, "is not a label"),
        ({"partition": {"columns": ["nope"]}}, "'nope' is not a scalar request feature"),
        ({"partition": {"buckets": 0}}, "greater than or equal to 1"),
        ({"impression_key": "position"}, "needs the raw column of the position"),
        ({"keys": KEYS | {"request_id": {"gap": "30m"}}}, "needs the time of each impression"),
        ({"keys": KEYS | {"request_id": {"gap": "30m", "column": "r"}}}, "exactly one of column, expression or gap"),
        ({"request_span": "six hours"}, "request_span"),
        ({"conflict": "merge"}, "'split', 'first' or 'latest'"),
    ],
)  # fmt: skip
def test_what_does_not_hold_together_is_refused_by_name(parts: dict[str, Any], says: str) -> None:
    assert says in refusal(**parts)


def test_missing_keys_are_named() -> None:
    with pytest.raises(SpecError, match=r"keys\.item_id: missing"):
        parse_spec({"name": "x", "keys": {k: v for k, v in KEYS.items() if k != "item_id"}})


def test_newer_formats_and_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="spec format 2"):
        parse_spec({"reqlake": 2, "name": "x"})
    (tmp_path / "list.yaml").write_text("- a\n- b\n")
    with pytest.raises(SpecError, match=r"list\.yaml holds list"):
        load_spec(tmp_path / "list.yaml")
    (tmp_path / "broken.yaml").write_text("a: [1\n")
    with pytest.raises(SpecError, match=r"broken\.yaml is not YAML"):
        load_spec(tmp_path / "broken.yaml")
    with pytest.raises(SpecError, match=r"none\.yaml"):
        load_spec(tmp_path / "none.yaml")


def test_unknown_column_suggests_the_nearest() -> None:
    with pytest.raises(KeyError, match="history_item_id"):
        SPECS["feed"].column("history_items_id")
