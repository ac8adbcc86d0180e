"""A backfill's source: read, its keys as the table has them, judged and counted before anything is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from lakehouse.raw.places import on_s3
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
    """Open a source. Raises BackfillError: a column is missing, or the feature cannot be filled."""
    from spark_jobs.backfill import is_table

    if is_table(source):
        frame = spark.table(f"{settings.catalog.in_spark}.{source}")
    else:
        files = find_files([source], settings.s3)
        if other := next((file for file in files if file.format != "parquet" or on_s3(file.path)), None):
            raise BackfillError(f"{other.path}: a backfill's source is Parquet on a disk, or a table: write it as one")
        frame = spark.read.parquet(*[file.path for file in files])
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


def judge_keys(table: DataFrame, source: Source, spec: DatasetSpec, where: str) -> Counts:
    """Compare the keys of both sides, in one pass over key columns. Raises BackfillError: a key is null, or twice."""
    from pyspark.sql import functions as F

    mine = table.select(*REQUEST)
    if source.level == "candidate":
        mine = table.select(*REQUEST, F.explode(source.key).alias(source.key))
    mine = mine.distinct().withColumn("_mine", F.lit(1))
    keys = list(source.keys)
    no_key = " OR ".join(f"{k} IS NULL" for k in keys)
    theirs = source.frame.groupBy(*keys).agg(F.count("*").alias("_rows")).withColumn("_null", F.expr(no_key))
    counts = {
        "nulls": F.sum(F.expr("if(_null, _rows, 0)")),
        "twice": F.count_if(F.expr("NOT _null AND _rows > 1")),
        "twice_rows": F.sum(F.expr("if(NOT _null AND _rows > 1, _rows, 0)")),
        "source": F.count("_rows"),
        "extra": F.count_if(F.expr("_mine IS NULL")),
        "missing": F.count_if(F.expr("_rows IS NULL")),
    }
    row = mine.join(theirs, keys, "full").agg(*[c.alias(n) for n, c in counts.items()]).collect()[0]
    found = {name: row[name] or 0 for name in counts}
    if found["nulls"]:
        raise BackfillError(f"{found['nulls']:,} rows of {where} have a null in {', '.join(keys)}: nothing was written")
    if found["twice"]:
        masked = spec.keys.user_id.sensitive or spec.keys.request_id.sensitive
        examples = [] if masked else theirs.where("_rows > 1").limit(EXAMPLES).collect()
        shown = "; ".join(", ".join(f"{k} {r[k]}" for k in keys) for r in examples)
        such = f", such as {shown}" if shown else ""
        raise BackfillError(
            f"{found['twice']:,} keys are in {where} more than once ({found['twice_rows']:,} rows){such}: which "
            f"value is meant? Nothing was written"
        )
    return Counts(found["source"], found["extra"], found["missing"])
