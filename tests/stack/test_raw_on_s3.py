"""Raw logs on a real S3 server into an embedded lake: found, told apart, read by workers, refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs, orc

from lakehouse.errors import RawDataError
from lakehouse.raw.places import s3_options
from lakehouse.settings import Settings, load_settings
from lakehouse.spec.infer import infer_spec
from lakehouse.stack.state import Stack
from spark_jobs import ingest
from spark_jobs.files import find_files, find_ready
from spark_jobs.raw import open_raw
from spark_jobs.session import build_session
from spark_jobs.stream import Stream
from tests.spark_jobs.conftest import embedded, published, rows_of
from tests.support.datasets import SPECS, raw_log, reference_requests

pytestmark = [
    pytest.mark.integration,
    pytest.mark.spark,
    pytest.mark.filterwarnings("ignore:.*unclosed.*socket.*:pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:.*unclosed.*socket.*:ResourceWarning"),
]
SPEC = SPECS["feed"]
RAW = raw_log(SPEC, users=4)


@pytest.fixture
def settings(stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A lake on disk whose raw logs lie on S3."""
    monkeypatch.chdir(tmp_path)
    given = stack.settings(("s3",))["s3"]
    for name, value in given.items():
        monkeypatch.setenv(f"REQLAKE_S3__{name.upper()}", str(value))
    return embedded(tmp_path).model_copy(update={"s3": load_settings(s3=given).s3})


@pytest.fixture
def server(settings: Settings, request: pytest.FixtureRequest) -> tuple[fs.S3FileSystem, str]:
    """The server, and a folder of its bucket for one test."""
    return fs.S3FileSystem(**s3_options(settings.s3)), f"lake/raw/{request.node.name}"


def put(server: tuple[fs.S3FileSystem, str], name: str, table: pa.Table) -> str:
    system, folder = server
    with system.open_output_stream(f"{folder}/{name}") as file:
        (orc if name.endswith(".orc") else pq).write_table(table, file)
    return f"s3://{folder}"


def test_parquet_and_orc_are_ingested_from_s3(server: Any, settings: Settings) -> None:
    spark = build_session(settings)
    for i in range(2):
        place = put(server, f"day={i}/part {i}.parquet", RAW.slice(30 * i, 30))
    files = find_files([f"{place}/*/*.parquet"], settings.s3)
    assert [(file.rows, file.partition) for file in files] == [(30, (("day", str(i)),)) for i in range(2)]
    assert open_raw(spark, SPEC, files, settings.s3).direct is not None
    first = ingest.run(spark, settings, SPEC, [place])
    assert first.raw_rows == 60
    put(server, "rest.orc", RAW.slice(60))
    put(server, "_hidden.orc", RAW.slice(0, 1))
    for pattern, skipped in ((place.replace("s3:", "s3a:") + "/**/*.orc", False), (f"{place}/r*", True)):
        assert ingest.run(spark, settings, SPEC, [pattern]).skipped is skipped
    again = ingest.run(spark, settings, SPEC, [f"{place}/**/*.parquet"])
    assert (again.skipped, len(again.known_files)) == (True, 2)
    assert rows_of(published(settings, SPEC)) == rows_of(reference_requests(RAW, SPEC))


def test_half_written_files_wait_and_the_rest_is_named(server: Any, settings: Settings, tmp_path: Path) -> None:
    system, folder = server
    place = put(server, "whole.parquet", RAW)
    with (
        system.open_input_file(f"{folder}/whole.parquet") as whole,
        system.open_output_stream(f"{folder}/half") as half,
    ):
        half.write(whole.read()[:-9])
    files, waiting = find_ready([place], settings.s3)
    assert ([file.path for file in files], waiting) == ([f"{place}/whole.parquet"], [f"{place}/half"])
    with pytest.raises(RawDataError, match="half is not a whole Parquet file"):
        find_ready([f"{place}/half"], settings.s3)
    for missing in (f"{place}/nowhere", "s3://no-such-bucket/x"):
        with pytest.raises(RawDataError, match=r"no raw file s3://|cannot read s3://"):
            find_files([missing], settings.s3)
    wrong = settings.s3.model_copy(update={"access_key": "nobody"})
    with pytest.raises(RawDataError, match=r"cannot read s3://.*check the s3 settings"):
        find_files([place], wrong)
    put(server, "more/log.parquet", raw_log(SPEC))
    pq.write_table(raw_log(SPEC), tmp_path / "log.parquet")
    assert infer_spec(f"{place}/more", "feed").spec == infer_spec(tmp_path / "log.parquet", "feed").spec


def test_avro_on_s3_needs_hadoops_s3a(server: Any, settings: Settings, tmp_path: Path) -> None:
    spark = build_session(settings)
    pq.write_table(RAW, tmp_path / "log.parquet")
    spark.read.parquet(str(tmp_path / "log.parquet")).coalesce(1).write.format("avro").save(str(tmp_path / "avro"))
    (file,) = find_files([tmp_path / "avro"])
    system, folder = server
    with system.open_output_stream(f"{folder}/log.avro") as output:
        output.write(Path(file.path).read_bytes())
    (found,) = find_files([f"s3://{folder}"], settings.s3)
    assert (found.rows, found.schema, found.size) == (file.rows, file.schema, file.size)
    with pytest.raises(RawDataError, match=r"log.avro: Spark reads Avro files on S3 .* REQLAKE_SPARK__JARS"):
        open_raw(spark, SPEC, [found], settings.s3)
    with pytest.raises(RawDataError, match=r"Spark reads a stream's files on S3"):
        Stream(spark, settings, SPEC, [f"s3://{folder}"], lambda _: None).run(once=True)
