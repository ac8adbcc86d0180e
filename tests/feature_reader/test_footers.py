"""Footers: files of one schema are known by its bytes, and read as pyarrow reads them."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pyiceberg.table import Table

from feature_reader.footers import Footers
from feature_reader.storage import Storage
from feature_reader.thrift import schema_end
from lakehouse.catalog import local_path
from lakehouse.settings import Settings
from tests.support.datasets import SPECS, raw_log, reference_requests, write_request_table

SCALARS = st.sampled_from(
    [pa.int8(), pa.int64(), pa.float32(), pa.string(), pa.bool_(), pa.timestamp("us", tz="UTC"), pa.decimal128(9, 2)]
)
TYPES = st.one_of(SCALARS, SCALARS.map(pa.list_), SCALARS.map(pa.list_).map(pa.list_))
NAMES = st.lists(st.text("abcdefgh_", min_size=1, max_size=40), min_size=1, max_size=20, unique=True)


def footer_of(schema: pa.Schema, rows: int = 0) -> bytes:
    """A file's footer as it lies."""
    sink = io.BytesIO()
    empty = schema.empty_table()
    pq.write_table(pa.concat_tables([empty, pa.table([pa.nulls(rows, f.type) for f in schema], schema=schema)]), sink)
    data = sink.getvalue()
    return data[-8 - int.from_bytes(data[-8:-4], "little") : -8]


@hypothesis_settings(deadline=None, max_examples=60)
@given(names=NAMES, data=st.data(), rows=st.integers(0, 500))
def test_the_bytes_of_a_schema_are_those_of_every_file_with_it(
    names: list[str], data: st.DataObject, rows: int
) -> None:
    kinds = data.draw(st.lists(TYPES, min_size=len(names), max_size=len(names)))
    fields = [
        pa.field(name, kind, metadata={"PARQUET:field_id": str(i)})
        for i, (name, kind) in enumerate(zip(names, kinds, strict=True), start=1)
    ]
    footer, other = footer_of(pa.schema(fields)), footer_of(pa.schema(fields), rows)
    end = schema_end(footer)
    assert end is not None
    assert other.startswith(footer[:end])
    at = data.draw(st.integers(0, len(fields) - 1))
    for changed in (
        fields[at].with_name(fields[at].name + "x"),
        fields[at].with_metadata({"PARQUET:field_id": "99"}),
        fields[at].with_nullable(False),
    ):
        assert not footer_of(pa.schema([*fields[:at], changed, *fields[at + 1 :]])).startswith(footer[:end])
    cut = data.draw(st.integers(0, end - 1))
    assert schema_end(footer[:cut]) is None


def test_a_footer_of_another_layout_is_not_understood() -> None:
    for data in (b"", b"\x00", b"PAR1", b"\xff" * 100, b"\x15\x02\x29\x0c"):
        assert schema_end(data) is None


@pytest.fixture
def video(settings: Settings) -> Table:
    spec = SPECS["video"]
    return write_request_table(settings, spec, reference_requests(raw_log(spec), spec), files=2, row_group=7)


def test_every_footer_is_what_pyarrow_reads(video: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [task.file.file_path for task in video.scan().plan_files()]
    assert len(paths) > 2
    footers, whole = Footers(Storage(video), None), []
    slow = Footers._whole
    monkeypatch.setattr(Footers, "_whole", lambda self, path: whole.append(path) or slow(self, path))
    for path in paths * 2:
        found, wanted = footers.read(path), slow(footers, path)
        assert found.metadata.equals(pq.read_metadata(local_path(path)))
        assert (found.present, found.strings, found.leaves) == (wanted.present, wanted.strings, wanted.leaves)
    assert len(whole) == 1


def test_a_file_smaller_than_a_footer_and_a_foreign_one_go_the_slow_way(video: Table, tmp_path: Path) -> None:
    footers = Footers(Storage(video), None)
    good = next(iter(video.scan().plan_files())).file.file_path
    footers.read(good)
    for content in (b"", b"PAR1", bytes(100)):
        (tmp_path / "bad.parquet").write_bytes(content)
        with pytest.raises((pa.ArrowInvalid, OSError)):
            footers.read(f"file://{tmp_path}/bad.parquet")
