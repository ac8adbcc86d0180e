"""Fingerprints: equal for equal values, different where Spark's own hash is not."""

from __future__ import annotations

from typing import Any

import pytest

from lakehouse.spec import FeatureType
from spark_jobs.fingerprint import RARE, fingerprint

pytestmark = pytest.mark.spark
COLUMNS = {
    "a": FeatureType("long", "list"),
    "b": FeatureType("long", "list"),
    "c": FeatureType("long"),
    "d": FeatureType("long"),
}
LOWEST = -9223372036854775807
VALUES = [
    ([1], [], None, 1),
    ([], [1], None, 1),
    ([], [1], 1, None),
    ([1, 2], [3], 0, 0),
    ([1], [2, 3], 0, 0),
    ([1, None], [], 0, 0),
    ([None, 1], [], 0, 0),
    ([1], [None], 0, 0),
    (None, [1], 0, 0),
    ([], None, 0, 0),
    ([None], [None, None], 0, 0),
    ([None, None], [None], 0, 0),
    ([LOWEST], [], 0, 0),
    ([LOWEST, None], [], 0, 0),
    ([None, LOWEST], [], 0, 0),
]


def test_values_that_spark_mixes_up_are_told_apart(spark: Any) -> None:
    schema = "a array<bigint>, b array<bigint>, c bigint, d bigint"
    frame = spark.createDataFrame(VALUES + VALUES, schema)
    hashes = [r[0] for r in frame.select(fingerprint(COLUMNS)).collect()]
    assert hashes[: len(VALUES)] == hashes[len(VALUES) :]
    assert len(set(hashes)) == len(VALUES)
    plain = frame.selectExpr("xxhash64(a, b, c, d) AS h").distinct().count()
    assert plain < len(VALUES), "else none of this would be needed"


def test_every_element_type_has_a_fingerprint(spark: Any) -> None:
    kinds = {"bool": "boolean", "long": "bigint"}
    for element in RARE:
        frame = spark.sql(f"SELECT array(CAST(NULL AS {kinds.get(element, element)})) AS x")
        one, none = FeatureType(element, "list"), FeatureType(element)
        assert frame.select(fingerprint({"x": one})).first()[0] is not None
        assert frame.selectExpr("x[0] AS x").select(fingerprint({"x": none})).first()[0] is not None


def test_the_fingerprint_is_what_it_was(spark: Any) -> None:
    """Tables hold it as a key: it may never change."""
    frame = spark.createDataFrame([([1, 2], [], None, 7)], "a array<bigint>, b array<bigint>, c bigint, d bigint")
    assert frame.select(fingerprint(COLUMNS)).first()[0] == GOLDEN


GOLDEN = 3560965339589603420
