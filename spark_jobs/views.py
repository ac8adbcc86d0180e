"""The spec's views in Spark's SQL, in a namespace of their own: Trino fails on a Spark view beside its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakehouse.applied_views import Change, changes, ours, refuse_foreign, wanted_views
from lakehouse.settings import Settings
from lakehouse.spec import DatasetSpec
from spark_jobs.guard import job

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def namespace_of(spec: DatasetSpec) -> str:
    """`<namespace>_spark`."""
    return f"{spec.namespace}_spark"


def diff(spark: SparkSession, settings: Settings, spec: DatasetSpec) -> list[Change]:
    """What `apply` would do."""
    wanted = wanted_views(spec, "spark", settings.catalog.in_spark, namespace_of(spec))
    return changes(spec, wanted, _there(spark, settings, spec))


def apply(spark: SparkSession, settings: Settings, spec: DatasetSpec) -> list[Change]:
    """Make the views as the spec says; what was done. Raises SqlError before any change where a name is not ours."""
    with job(spark, settings):
        spark.sql(f"CREATE NAMESPACE IF NOT EXISTS {_space(settings, spec)}")
        planned = diff(spark, settings, spec)
        refuse_foreign(planned)
        for change in planned:
            if change.action != "keep":
                _do(spark, settings, change)
        return planned


def drop(spark: SparkSession, settings: Settings, spec: DatasetSpec) -> list[Change]:
    """Drop every view that was made for this dataset."""
    with job(spark, settings):
        planned = [Change(name, "drop", "asked for") for name in ours(spec, _there(spark, settings, spec))]
        for change in planned:
            _do(spark, settings, change)
        return planned


def _space(settings: Settings, spec: DatasetSpec) -> str:
    return f"{settings.catalog.in_spark}.{namespace_of(spec)}"


def _there(spark: SparkSession, settings: Settings, spec: DatasetSpec) -> dict[str, str | None]:
    """Tables and views of the namespace, with the comments of views."""
    catalog, namespace = settings.catalog.in_spark, namespace_of(spec)
    known = {row[0] for row in spark.sql(f"SHOW NAMESPACES IN {catalog}").collect()}
    if namespace not in known:
        return {}
    there: dict[str, str | None] = {
        f"{namespace}.{row['tableName']}": None for row in spark.sql(f"SHOW TABLES IN {catalog}.{namespace}").collect()
    }
    for row in spark.sql(f"SHOW VIEWS IN {catalog}.{namespace}").collect():
        told = spark.sql(f"DESCRIBE TABLE EXTENDED {catalog}.{namespace}.`{row['viewName']}`").collect()
        comments = [str(line["data_type"]) for line in told if line["col_name"] == "Comment"]
        there[f"{namespace}.{row['viewName']}"] = comments[0] if comments else None
    return there


def _do(spark: SparkSession, settings: Settings, change: Change) -> None:
    full = ".".join(f"`{part}`" for part in (settings.catalog.in_spark, *change.name.split(".", 1)))
    if change.action == "drop":
        spark.sql(f"DROP VIEW IF EXISTS {full}")
        return
    assert change.view is not None
    how = "CREATE OR REPLACE VIEW" if change.action == "replace" else "CREATE VIEW"
    comment = change.view.comment.replace("\\", "\\\\").replace("'", "\\'")
    spark.sql(f"{how} {full} COMMENT '{comment}' AS {change.view.sql}")
