"""The same rows through each format and each way of lying about give the same request table, each exactly once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import orc

from lakehouse.errors import RawDataError
from lakehouse.settings import Settings
from lakehouse.spec import DatasetSpec, parse_spec
from spark_jobs import ingest
from spark_jobs.direct import arrow
from spark_jobs.files import find_files, find_ready
from spark_jobs.raw import open_raw
from spark_jobs.scan import FILE, ROW
from tests.spark_jobs.conftest import published, rows_of
from tests.support.datasets import SPECS, raw_log, reference_requests

pytestmark = pytest.mark.spark
SPEC = SPECS["feed"]


def as_orc(_: Any, raw: pa.Table, folder: Path) -> str:
    folder.mkdir()
    half = len(raw) // 2
    for i, part in enumerate((raw.slice(0, half), raw.slice(half))):
        orc.write_table(part, folder / f"{i}.orc", stripe_size=1 << 12)
    return str(folder)


def as_avro(spark: Any, raw: pa.Table, folder: Path) -> str:
    pq.write_table(raw, folder.with_suffix(".parquet"))
    frame = spark.read.parquet(str(folder.with_suffix(".parquet")))
    frame.repartition(2).write.format("avro").save(str(folder))
    return str(folder)


@pytest.mark.exhaustive
def test_a_log_that_is_spread_over_two_formats(spark: Any, settings: Settings, tmp_path: Path) -> None:
    """Rows of one request come in both: the later ones merge, whatever they were written as."""
    rows = raw_log(SPEC, users=4).to_pylist()
    rows[3]["click"] = rows[4]["click"] = 5.0  # for the quarantine
    raw = pa.Table.from_pylist(rows, schema=raw_log(SPEC, users=1).schema)
    parts = [raw.filter([i % 2 == n for i in range(len(raw))]) for n in range(2)]
    for lay, part in zip([as_orc, as_avro], parts, strict=True):
        log = lay(spark, part, tmp_path / lay.__name__)
        report = ingest.run(spark, settings, SPEC, [log])
        assert report.raw_rows == len(part)
    again = ingest.run(spark, settings, SPEC, [log])
    assert (again.skipped, len(again.known_files)) == (True, len(find_files([log])))
    good = pa.Table.from_pylist([row for row in rows if row["click"] <= 1], schema=raw.schema)
    assert rows_of(published(settings, SPEC)) == rows_of(reference_requests(good, SPEC))
    held = published(settings, SPEC, "quarantine").to_pylist()
    assert {row["file"].rsplit(".", 1)[1] for row in held} == {"orc", "avro"}
    assert all('"click":5.0' in row["raw"] for row in held)


@pytest.mark.parametrize("name", ["shop", pytest.param("video", marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize("lay", [as_orc, as_avro])
def test_each_format_gives_the_rows_that_parquet_gives(
    lay: Callable[..., str], name: str, spark: Any, tmp_path: Path, write: Any
) -> None:
    """Strings, vectors, ragged lists, times; a row's place in its file; the schema that was promised."""
    spec = SPECS[name]
    raw = raw_log(spec, users=3)
    raw = raw.append_column("unread", pa.array([{"a": [i]} for i in range(len(raw))]))
    files = find_files([lay(spark, raw, tmp_path / "log")])
    log = open_raw(spark, spec, files)
    wanted = open_raw(spark, spec, find_files([write(raw)]))
    columns = [c for c in wanted.typed.columns if c not in (FILE, ROW)]

    def content(frame: Any) -> list[str]:
        return sorted(map(repr, frame.select(*columns).collect()))

    assert content(log.typed) == content(wanted.typed)
    assert sum(file.rows for file in files) == len(raw)
    places = {(row[FILE].rsplit("/", 1)[-1], row[ROW]) for row in log.narrow().select(FILE, ROW).collect()}
    assert places == {(file.name, i) for file in files for i in range(file.rows)}
    assert set(log.raw.columns) == {*raw.column_names, FILE, ROW}


def test_rows_of_avro_files_are_numbered_in_their_order(spark: Any, tmp_path: Path) -> None:
    for i in range(5):
        frame = spark.range(1000 * i, 1000 * i + 700, 1, 1).selectExpr(
            "id AS u", "id AS r", "timestamp_seconds(id) AS t"
        )
        frame.selectExpr("*", "u AS i", "CAST(0 AS float) AS click").write.format("avro").save(
            str(tmp_path / "log" / f"a{i}")
        )
    spec = parse_spec(
        {
            "name": "x",
            "keys": {"user_id": "u", "request_id": "r", "request_ts": "t", "item_id": "i"},
            "labels": {"click": "float"},
        }
    )
    log = open_raw(spark, spec, find_files([tmp_path / "log"]))
    assert log.typed.where(f"user_id % 1000 != {ROW}").count() == 0
    assert log.typed.where("item_id > 2000").selectExpr(f"sum({ROW})").first()[0] == 2 * sum(range(700)) + sum(
        range(1, 700)
    )


def test_the_schema_of_avro_is_what_spark_reads(spark: Any, tmp_path: Path) -> None:
    frame = spark.sql(
        "SELECT 1 AS a, 2L AS b, 'x' AS c, 1.5F AS d, 2.5D AS e, true AS f, DATE '2026-01-01' AS g, X'01' AS h, "
        "TIMESTAMP '2026-01-01 00:00:00' AS i, TIMESTAMP_NTZ '2026-01-01 00:00:00' AS j, 1.25BD AS k, array(1L) AS l, "
        "map('a', 1) AS m, array(named_struct('x', 1, 'y', array('z'))) AS n, "
        "named_struct('p', named_struct('q', 1)) AS o"
    )
    frame.write.format("avro").save(str(tmp_path / "log"))
    (file,) = find_files([tmp_path / "log"])
    assert arrow(spark.read.format("avro").load(file.path).schema) == file.schema
    assert file.rows == 1


def test_half_written_orc_and_avro_wait(spark: Any, tmp_path: Path) -> None:
    raw = raw_log(SPEC, users=2)
    folders = [as_orc(spark, raw, tmp_path / "orc"), as_avro(spark, raw, tmp_path / "avro")]
    for folder in folders:
        whole = find_files([folder])
        half = Path(whole[0].path)
        data = half.read_bytes()
        for size in (3, len(data) // 2, len(data) - 1):
            half.write_bytes(data[:size])
            files, waiting = find_ready([folder])
            assert (files, waiting) == (whole[1:], [str(half)])
        with pytest.raises(RawDataError, match=f"{half} is not a whole (ORC|Avro) file"):
            find_ready([half])
        half.write_bytes(data)
        assert find_ready([folder]) == (whole, [])
    with pytest.raises(RawDataError, match="in two calls"):
        open_raw(spark, SPEC, find_files(folders))


def flat(**keys: Any) -> DatasetSpec:
    own = {"user_id": "u", "request_id": "r", "request_ts": "t", "item_id": "i"} | keys
    return parse_spec({"name": "x", "keys": own, "request_features": {"site": "string"}, "labels": {"click": "float"}})


def test_folders_are_typed_by_the_spec(spark: Any, tmp_path: Path) -> None:
    """A number where the spec wants one, text where it wants text, a day as its first moment, Hive's null."""
    raw = pa.table({"u": [1], "i": [7], "click": pa.array([1.0], pa.float32())})
    for folder in ("r=007/t=2026-01-02/site=12", "r=8/t=2026-01-02 03%3A04%3A05/site=__HIVE_DEFAULT_PARTITION__"):
        (tmp_path / "log" / folder).mkdir(parents=True)
        pq.write_table(raw, tmp_path / "log" / folder / "x.parquet")
    pq.write_table(raw, tmp_path / "log" / "r=007" / "t=2026-01-02" / "site=12" / "y.parquet")
    rows = open_raw(spark, flat(), find_files([tmp_path / "log"])).typed.selectExpr(
        "request_id", "string(request_ts)", "site"
    )
    assert sorted(map(tuple, rows.collect()), key=repr) == [
        (7, "2026-01-02 00:00:00", "12"),
        (7, "2026-01-02 00:00:00", "12"),
        (8, "2026-01-02 03:04:05", None),
    ]
    avro = tmp_path / "avro"
    spark.read.parquet(str(tmp_path / "log" / "r=8")).select("u", "i", "click").write.format("avro").save(
        str(avro / "r=8" / "t=2026-01-02" / "site=a")
    )
    (row,) = (
        open_raw(spark, flat(), find_files([avro]))
        .typed.selectExpr("request_id", "string(request_ts)", "site")
        .collect()
    )
    assert tuple(row) == (8, "2026-01-02 00:00:00", "a")
    with pytest.raises(RawDataError, match=r"partition t=2026-01-02 is read as int64"):
        open_raw(spark, flat(request_ts={"column": "t", "unit": "ms"}), find_files([tmp_path / "log" / "r=007"]))
