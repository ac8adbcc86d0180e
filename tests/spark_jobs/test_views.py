"""The views in Spark's own SQL: made in a namespace of their own, and giving what embedded SQL gives."""

from __future__ import annotations

from typing import Any

import pytest

from lakehouse import sql
from lakehouse.errors import SqlError
from lakehouse.settings import Settings
from lakehouse.views import views
from spark_jobs.views import apply, diff, drop
from tests.support.datasets import SPECS, raw_log, reference_requests, write_request_table

pytestmark = pytest.mark.spark


def test_every_view_gives_the_rows_that_embedded_sql_gives(spark: Any, settings: Settings) -> None:
    for name in ("feed", "video"):
        spec = SPECS[name]
        write_request_table(settings, spec, reference_requests(raw_log(spec, users=4), spec))
        assert {c.action for c in apply(spark, settings, spec)} == {"create"}
        assert {c.action for c in apply(spark, settings, spec)} == {"keep"}
        for view, shape in views(spec).items():
            frame = spark.table(f"lake.reqlake_spark.{view}")
            assert frame.columns == shape.column_names
            wanted = sql.query(settings, f"SELECT * FROM {view}")
            assert _sorted(frame.toArrow().to_pylist()) == _sorted(wanted.to_pylist()), view
    wider = SPECS["feed"].model_copy(update={"doc": "another word on it"})
    assert {c.action for c in diff(spark, settings, wider)} == {"replace"}
    assert {c.action for c in apply(spark, settings, wider)} == {"replace"}
    dropped = drop(spark, settings, SPECS["feed"])
    assert {c.name for c in dropped} == {f"reqlake_spark.{view}" for view in views(SPECS["feed"])}
    assert drop(spark, settings, SPECS["feed"]) == []
    assert len(drop(spark, settings, SPECS["video"])) == len(views(SPECS["video"]))


def test_a_name_that_is_taken_stays_as_it_is(spark: Any, settings: Settings) -> None:
    spec = SPECS["feed"]
    write_request_table(settings, spec, reference_requests(raw_log(spec, users=2), spec))
    spark.sql("CREATE NAMESPACE lake.reqlake_spark")
    spark.sql("CREATE VIEW lake.reqlake_spark.feed_impressions AS SELECT 1 AS n")
    with pytest.raises(SqlError, match=r"nothing was changed: reqlake_spark\.feed_impressions is a table"):
        apply(spark, settings, spec)
    assert spark.table("lake.reqlake_spark.feed_impressions").collect() == [(1,)]
    assert spark.sql("SHOW VIEWS IN lake.reqlake_spark").count() == 1


def _sorted(rows: list[dict[str, Any]]) -> list[str]:
    return sorted(repr(list(row.values())) for row in rows)
