"""Raw files as Spark frames: their own columns, and `_file` and `_row`, which name each row for good.

Local Parquet and Avro are read by Spark, all else by PyArrow in Spark's workers (spark_jobs/raw_rows.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import TYPE_CHECKING

import pyarrow as pa

from lakehouse.errors import RawDataError
from lakehouse.raw.formats import NAMES
from lakehouse.raw.partitions import partition_of, typed, with_partitions
from lakehouse.raw.places import on_s3, s3_options
from lakehouse.settings import S3Settings
from lakehouse.spec.raw_types import AS_SIGNED, plain
from spark_jobs.direct import PIECES, arrow
from spark_jobs.files import RawFile
from spark_jobs.raw_rows import Part, number_rows, read_rows, sent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import StructType

FILE, ROW = "_file", "_row"
AVRO = "Avro files"
Scan = Callable[[Sequence[str] | None], "DataFrame"]
"""The raw columns of these names, or all of them, with `_file` and `_row`."""
# A task reads a whole file, so that it can number the rows.
WHOLE_FILES = {"spark.sql.files.maxPartitionBytes": str(1 << 40), "spark.sql.files.openCostInBytes": str(1 << 40)}


def of_one_format(files: list[RawFile]) -> None:
    """Raises RawDataError for files of two formats."""
    for file in files:
        if file.format != files[0].format:
            raise RawDataError(
                f"{file.path} is {NAMES[file.format]}, {files[0].path} is {NAMES[files[0].format]}: ingest them in two "
                f"calls, as with a pattern '…/*.{file.format}'"
            )


def partitioned(files: list[RawFile], wanted: Mapping[str, pa.DataType]) -> list[RawFile]:
    """The files with the columns that their Hive folders hold, typed as `wanted` says, else text.

    Raises RawDataError for a value that is not of its type.
    """
    found = []
    for file in files:
        schema, names = with_partitions(file.schema, file.partition, wanted)
        for name, value in file.partition:
            if name in names:
                typed(name, [value], schema.field(name).type, file.path)
        found.append(replace(file, schema=schema, partition=tuple(v for v in file.partition if v[0] in names)))
    return found


def parquet_scan(spark: SparkSession, files: list[RawFile]) -> Scan:
    """Local Parquet by Spark, which decodes the columns that are used of it."""
    from pyspark.sql import functions as F

    same = len({tuple(zip(f.schema.names, map(plain, f.schema.types), strict=True)) for f in files}) == 1
    reader = spark.read.option("mergeSchema", str(not same).lower())
    frame = reader.parquet(*[f"file://{file.path}" for file in files])  # Hadoop decodes no %20
    return lambda _: frame.select(
        "*", F.col("_metadata.file_path").alias(FILE), F.col("_metadata.row_index").alias(ROW)
    )


def avro_scan(spark: SparkSession, files: list[RawFile]) -> Scan:
    """Avro by Spark's own module, a file a task. Raises RawDataError on S3 where the session has no Hadoop for it."""
    from pyspark.sql import functions as F
    from pyspark.sql import types as T

    schema = spark_schema(together(files))
    roots: dict[str, list[RawFile]] = {}
    for file in files:
        roots.setdefault(partition_of(file.path)[0] if file.partition else "", []).append(file)
    for name, value in WHOLE_FILES.items():
        spark.conf.set(name, value)  # the job puts them back (spark_jobs/guard.py)
    frames = []
    for root, mine in roots.items():
        reader = spark.read.format("avro").schema(schema)
        reader = reader.option("basePath", for_hadoop(spark, root, AVRO)) if root else reader
        read = reader.load([for_hadoop(spark, file.path, AVRO) for file in mine])
        frames.append(read.select("*", F.col("_metadata.file_path").alias(FILE)))
    frame = frames[0]
    for more in frames[1:]:
        frame = frame.unionByName(more)

    def scan(names: Sequence[str] | None) -> DataFrame:
        kept = [f"`{name}`" for name in schema.names if names is None or name in names]
        rows = frame.select(*kept, FILE)
        numbered = T.StructType([*rows.schema.fields, T.StructField(ROW, T.LongType())])
        return rows.mapInArrow(sent(number_rows(arrow(numbered), FILE, ROW)), numbered)

    return scan


def arrow_scan(spark: SparkSession, files: list[RawFile], s3: S3Settings | None) -> Scan:
    """Parquet and ORC by PyArrow in workers: what is not asked for is not decoded."""
    everything = together(files)
    parts = [part for file in files if file.rows for part in _parts(file)]
    storage = s3_options(s3) if any(on_s3(file.path) for file in files) else {}

    def scan(names: Sequence[str] | None) -> DataFrame:
        from pyspark.sql import types as T

        kept = [field for field in everything if names is None or field.name in names]
        schema = spark_schema(pa.schema(kept)).add(FILE, T.StringType()).add(ROW, T.LongType())
        read = read_rows(parts, arrow(schema), FILE, ROW, storage)
        tasks = max(1, min(len(parts), max(spark.sparkContext.defaultParallelism, len(parts) // PIECES)))
        return spark.range(0, len(parts), 1, tasks).mapInArrow(sent(read), schema)

    return scan


def together(files: list[RawFile]) -> pa.Schema:
    """Every column of any file, by its plain type. Raises RawDataError where two files disagree on one."""
    found: dict[str, tuple[pa.DataType, RawFile]] = {}
    for file in files:
        for field in file.schema:
            kind, first = found.setdefault(field.name, (plain(field.type), file))
            if kind != plain(field.type):
                raise RawDataError(
                    f"column {field.name} is {plain(field.type)} in {file.path}, but {kind} in {first.path}: write one "
                    f"of them again, or ingest them apart"
                )
    return pa.schema([pa.field(name, kind) for name, (kind, _) in found.items()])


def spark_schema(schema: pa.Schema) -> StructType:
    """The Spark types of raw columns; what Spark has no type for is text."""
    from pyspark.errors import PySparkTypeError
    from pyspark.sql import types as T
    from pyspark.sql.pandas.types import from_arrow_type

    found = T.StructType()
    for field in schema:
        try:
            kind = from_arrow_type(signed(field.type), prefer_timestamp_ntz=True)
        except PySparkTypeError:
            kind = T.StringType()
        found.add(field.name, kind)
    return found


def signed(kind: pa.DataType) -> pa.DataType:
    """The type with signed numbers, which are all that Spark has."""
    if pa.types.is_list(kind):
        return pa.list_(signed(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(signed(field.type)) for field in kind])
    name = str(kind)
    return pa.type_for_alias(AS_SIGNED[name]) if name in AS_SIGNED else kind


def _parts(file: RawFile) -> list[Part]:
    kinds = {name: file.schema.field(name).type for name, _ in file.partition}
    constants = {name: typed(name, [value], kinds[name], file.path) for name, value in file.partition}
    if file.format == "orc":
        return [Part(file.uri, file.path, file.format, -1, 0, constants)]
    firsts = accumulate(file.groups, initial=0)
    return [Part(file.uri, file.path, file.format, i, next(firsts), constants) for i in range(len(file.groups))]


def for_hadoop(spark: SparkSession, path: str, what: str) -> str:
    """A path as Hadoop reads it. Raises RawDataError, with `what` is read so, on S3 in a session without its S3A."""
    if not on_s3(path):
        return f"file://{path}"
    from py4j.protocol import Py4JError  # type: ignore[import-untyped]

    try:
        spark._jvm.java.lang.Class.forName("org.apache.hadoop.fs.s3a.S3AFileSystem")  # type: ignore[union-attr] # noqa: SLF001
    except Py4JError as error:
        raise RawDataError(
            f"{path}: Spark reads {what} on S3 by Hadoop's S3A, which this session has not: add it by "
            f"REQLAKE_SPARK__JARS='[\"org.apache.hadoop:hadoop-aws:3.4.2\"]', copy the files to a disk, or write "
            f"Parquet and ingest it without a stream"
        ) from error
    return f"s3a://{path.removeprefix('s3://')}"
