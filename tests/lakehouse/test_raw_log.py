"""Raw logs as they lie, without Spark: formats, Hive's folders, Avro's schema; `spec check` and `infer` on them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import orc

from lakehouse.errors import RawDataError
from lakehouse.raw.avro import arrow_schema, read_frame
from lakehouse.raw.formats import NotWholeError
from lakehouse.raw.log import log_files
from lakehouse.raw.partitions import partition_of, wanted_types
from lakehouse.raw.places import Place, find_places
from lakehouse.spec import parse_spec
from lakehouse.spec.infer import infer_spec
from lakehouse.spec.match import mismatches
from lakehouse.spec.sample import raw_schema
from tests.support.datasets import SPECS, raw_log


@pytest.mark.parametrize("name", SPECS)
def test_a_spec_is_drafted_from_orc_as_from_parquet(name: str, tmp_path: Path) -> None:
    raw = raw_log(SPECS[name])
    for folder in ("orc", "parquet"):
        (tmp_path / folder).mkdir()
    orc.write_table(raw, tmp_path / "orc" / "log.orc")
    pq.write_table(raw, tmp_path / "parquet" / "log.parquet")
    (tmp_path / "orc" / "README.md").write_text("Not a log's file.")
    drafts = [infer_spec(tmp_path / folder, name).spec for folder in ("orc", "parquet")]
    partition = {
        "partition": SPECS[name].partition
    }  # PyArrow shows no statistics of ORC, so the log's span is not known
    assert drafts[0].model_copy(update=partition) == drafts[1].model_copy(update=partition)
    assert mismatches(SPECS[name], raw_schema(tmp_path / "orc")) == []


def test_folders_are_columns_of_the_type_that_the_spec_says(tmp_path: Path) -> None:
    spec = parse_spec(
        {
            "name": "x",
            "keys": {"user_id": "u", "request_id": "r", "request_ts": {"column": "hour", "unit": "s"}, "item_id": "i"},
            "request_features": {"site": "string", "day": "timestamp"},
            "labels": {"click": "float"},
        }
    )
    for folder in ("hour=0/day=2026-01-01/site=1", "hour=3600/day=2026-01-02/site=2"):
        (tmp_path / folder).mkdir(parents=True)
        table = pa.table({"u": [1], "r": [1], "i": [7], "click": pa.array([1.0], pa.float32())})
        pq.write_table(table, tmp_path / folder / "part.parquet")
    assert mismatches(spec, raw_schema(tmp_path, wanted_types(spec))) == []
    guessed = raw_schema(tmp_path)
    kinds = [str(guessed.field(n).type) for n in ("hour", "day", "site")]
    assert kinds == ["int64", "timestamp[us, tz=UTC]", "int64"]
    (tmp_path / "hour=0").rename(tmp_path / "hour=first")
    with pytest.raises(RawDataError, match=r"partition hour=.* is read as int64"):
        raw_schema(tmp_path, wanted_types(spec))


@pytest.mark.parametrize(
    ("path", "root", "values"),
    [
        ("/log/a.parquet", "/log", ()),
        ("/log/dt=2026-01-01/c=de%20x/a.parquet", "/log", (("dt", "2026-01-01"), ("c", "de x"))),
        ("/run=5/log/h=__HIVE_DEFAULT_PARTITION__/a=b.parquet", "/run=5/log", (("h", None),)),
        ("/log/=x/a.parquet", "/log/=x", ()),
    ],
)
def test_partitions_are_the_folders_right_above_a_file(path: str, root: str, values: tuple) -> None:
    assert partition_of(path) == (root, values)


def test_avros_types_are_those_that_spark_gives_its_columns() -> None:
    avro = {
        "type": "record",
        "name": "a.Row",
        "fields": [
            {"name": "id", "type": ["null", "long"]},
            {"name": "wide", "type": ["int", "long"]},
            {"name": "real", "type": ["float", "double", "null"]},
            {"name": "at", "type": [{"type": "long", "logicalType": "timestamp-millis"}, "null"]},
            {"name": "day", "type": {"type": "int", "logicalType": "date"}},
            {"name": "nanos", "type": {"type": "long", "logicalType": "timestamp-nanos"}},
            {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["x"]}},
            {"name": "again", "type": "Kind"},
            {"name": "mark", "type": {"type": "fixed", "name": "b.Mark", "size": 4}},
            {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
            {"name": "either", "type": ["int", "string"]},
            {
                "name": "events",
                "type": {
                    "type": "array",
                    "items": {"type": "record", "name": "E", "fields": [{"name": "i", "type": "int"}]},
                },
            },
            {"name": "tags", "type": {"type": "map", "values": "b.Mark"}},
        ],
    }
    utc = pa.timestamp("us", "UTC")
    assert [field.type for field in arrow_schema(avro)] == [
        *(pa.int64(), pa.int64(), pa.float64(), utc, pa.date32(), pa.int64(), pa.string(), pa.string(), pa.binary()),
        pa.decimal128(9, 2),
        pa.struct([("member0", pa.int32()), ("member1", pa.string())]),
        pa.list_(pa.struct([("i", pa.int32())])),
        pa.map_(pa.string(), pa.binary()),
    ]
    with pytest.raises(ValueError, match="Row holds itself"):
        arrow_schema({"type": "record", "name": "Row", "fields": [{"name": "next", "type": ["null", "Row"]}]})


def avro_file(*blocks: int) -> bytes:
    """A file of rows without fields, some of them in each block."""

    def number(value: int) -> bytes:
        assert 0 <= value < 64
        return bytes([value << 1])

    schema = json.dumps({"type": "record", "name": "R", "fields": []}).encode()
    assert len(schema) < 64
    entries = [(b"avro.codec", b"null"), (b"avro.schema", schema)]
    header = (
        number(len(entries)) + b"".join(number(len(part)) + part for entry in entries for part in entry) + number(0)
    )
    return b"Obj\x01" + header + b"s" * 16 + b"".join(number(rows) + number(0) + b"s" * 16 for rows in blocks)


def test_an_avro_file_that_breaks_off_is_not_whole_but_between_two_blocks() -> None:
    """It has no footer: nothing tells of a block that was never begun."""
    whole, parts = avro_file(3, 5), (len(avro_file()), len(avro_file(3)))
    assert read_frame(io.BytesIO(whole))[1] == 8
    for size in range(len(whole)):
        if size in parts:
            assert read_frame(io.BytesIO(whole[:size]))[1] in (0, 3)
        else:
            with pytest.raises(ValueError, match=r"breaks off|begin as an Avro file"):
                read_frame(io.BytesIO(whole[:size]))
    with pytest.raises(ValueError, match="marker"):
        read_frame(io.BytesIO(whole[:-1] + b"x"))


def test_a_log_is_refused_by_the_file_at_fault(tmp_path: Path) -> None:
    (tmp_path / "log.avro").write_bytes(avro_file(3))
    assert [file.rows for file in log_files(tmp_path)] == [3]
    with pytest.raises(RawDataError, match=r"log\.avro is Avro: give a sample"):
        infer_spec(tmp_path)
    (tmp_path / "log.avro").write_bytes(avro_file(3)[:-1])
    with pytest.raises(NotWholeError, match=r"log\.avro is not a whole Avro file"):
        log_files(tmp_path)
    (tmp_path / "log.avro").rename(tmp_path / "log.avro.tmp")
    with pytest.raises(RawDataError, match="holds no files"):
        log_files(tmp_path)
    assert list(find_places(str(tmp_path / "log.avro.tmp"))) == [
        Place(str(tmp_path / "log.avro.tmp"), len(avro_file(3)) - 1)
    ]
