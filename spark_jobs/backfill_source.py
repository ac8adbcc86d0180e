"""A backfill's source: read, its keys as the table has them, judged and counted before anything is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from lakehouse.settings import Settings
from lakehouse.spec import DatasetSpec
from spark_jobs.errors import BackfillError
from spark_jobs.files import find_files

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

REQUEST = ("user_id", "request_id")
PLACES = ("item_id", "position")
EXAMPLES = 3


@dataclass(frozen=True)
class Counts:
    """Keys of the source: all, those that the table does not have, and keys of the table that it does not have."""

    source: int
    extra: int
    missing: int


@dataclass(frozen=True)
class Source:
    """Rows of user_id, request_id, for a candidate feature item_id or position (`key`), and `_value`."""

    frame: DataFrame
    level: Literal["request", "candidate"]
    key: str
    kind: Any
    """Spark's type of one request's or one candidate's value."""

    @property
    def keys(self) -> tuple[str, ...]:
        """The key columns."""
        return (*REQUEST, self.key) if self.level == "candidate" else REQUEST

    def by_request(self) -> DataFrame:
        """user_id, request_id and `_new`: the value, or a map from item or position to the value."""
        from pyspark.sql import functions as F

        if self.level == "request":
            return self.frame.select(*REQUEST, F.col("_value").alias("_new"))
        entries = F.collect_list(F.struct(self.key, "_value"))
        return self.frame.groupBy(*REQUEST).agg(F.map_from_entries(entries).alias("_new"))


def read_source(spark: SparkSession, settings: Settings, spec: DatasetSpec, feature: str, source: str) -> Source:
    """Open a source. Raises BackfillError: a column is missing, a key is null, a key is there twice."""
    from spark_jobs.backfill import is_table

    if is_table(source):
        frame = spark.table(f"{settings.catalog.in_spark}.{source}")
    else:
        frame = spark.read.parquet(*[str(file.path) for file in find_files([source])])
    lacking = [c for c in (*REQUEST, feature) if c not in frame.columns]
    if lacking:
        raise BackfillError(
            f"{source} has no column {', '.join(lacking)}: a source has user_id, request_id, {feature}, and for a "
            f"candidate feature item_id or position"
        )
    places = [p for p in PLACES if p in frame.columns]
    known = spec.column(feature) if feature in {c.name for c in spec.columns()} else None
    level: Literal["request", "candidate"] = "candidate" if places else "request"
    if known is not None:
        if known.role not in ("request", "candidate", "label"):
            raise BackfillError(
                f"{feature} is a {known.role} column of {spec.name}: only features and labels are filled"
            )
        level = "candidate" if known.per_candidate else "request"
    if level == "candidate" and not places:
        raise BackfillError(f"{feature} is per candidate, and {source} has neither item_id nor position")
    key = places[0] if places else ""
    keys = [*REQUEST, *([key] if level == "candidate" else [])]
    rows = frame.select(*[_key(frame, k) for k in keys], _col(feature).alias("_value"))
    _judge(rows, keys, source, spec)
    return Source(rows, level, key, frame.schema[feature].dataType)


def _col(name: str) -> Column:
    from pyspark.sql import functions as F

    return F.col(f"`{name}`")


def _key(frame: DataFrame, name: str) -> Column:
    """A key as the table holds it: a string's hash, an integer as it is."""
    from pyspark.sql import functions as F
    from pyspark.sql.types import StringType

    if isinstance(frame.schema[name].dataType, StringType):
        return F.when(_col(name).isNotNull(), F.xxhash64(name)).alias(name)
    return _col(name).cast("int" if name == "position" else "bigint").alias(name)


def _judge(rows: DataFrame, keys: list[str], source: str, spec: DatasetSpec) -> None:
    from pyspark.sql import functions as F

    nulls = rows.where(" OR ".join(f"{k} IS NULL" for k in keys)).count()
    if nulls:
        raise BackfillError(f"{nulls:,} rows of {source} have a null in {', '.join(keys)}: nothing was written")
    twice = rows.groupBy(*keys).count().where("count > 1").persist()
    try:
        total = twice.agg(F.count("*"), F.sum("count")).collect()[0]
        if total[0]:
            masked = spec.keys.user_id.sensitive or spec.keys.request_id.sensitive
            shown = [", ".join(f"{k} {r[k]}" for k in keys) for r in twice.limit(EXAMPLES).collect()]
            such = "" if masked else f", such as {'; '.join(shown)}"
            raise BackfillError(
                f"{total[0]:,} keys are in {source} more than once ({total[1]:,} rows){such}: which value is meant? "
                f"Nothing was written"
            )
    finally:
        twice.unpersist()


def count_keys(table: DataFrame, source: Source) -> Counts:
    """Compare the keys of both sides, reading key columns alone."""
    from pyspark.sql import functions as F

    mine = table.select(*REQUEST).distinct()
    if source.level == "candidate":
        mine = table.select(*REQUEST, F.explode(source.key).alias(source.key)).distinct()
    theirs = source.frame.select(*source.keys)
    joined = mine.withColumn("_mine", F.lit(1)).join(theirs.withColumn("_theirs", F.lit(1)), list(source.keys), "full")
    row = joined.agg(
        F.count("_theirs"), F.count_if(F.col("_mine").isNull()), F.count_if(F.col("_theirs").isNull())
    ).collect()[0]
    return Counts(row[0], row[1], row[2])
