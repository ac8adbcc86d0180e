"""Raw files: which are taken, which refused, and what names a batch."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakehouse.errors import RawDataError
from spark_jobs.batch import choose_batch
from spark_jobs.errors import BatchRefusedError
from spark_jobs.files import batch_id_of, find_files, find_ready


def parquet(path: Path, rows: int = 3) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"a": list(range(rows))}, schema=pa.schema({"a": pa.int64()})), path)
    return path


def test_half_written_and_hidden_files_are_passed_over(tmp_path: Path) -> None:
    for name in ("a.parquet", "day=1/b.parquet", "_SUCCESS", ".c.parquet.crc", "d.parquet.tmp", "_temporary/e.parquet"):
        parquet(tmp_path / name)
    assert [f.name for f in find_files([tmp_path])] == ["a.parquet", "b.parquet"]
    assert [f.name for f in find_files([f"{tmp_path}/*/*.parquet", f"{tmp_path}/a.*"])] == [
        "a.parquet",
        "b.parquet",
    ]


def test_a_batch_is_its_contents_wherever_they_lie(tmp_path: Path) -> None:
    parquet(tmp_path / "one" / "a.parquet", 1)
    parquet(tmp_path / "one" / "b.parquet", 2)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    parquet(tmp_path / "three" / "a.parquet", 3)
    one, two, three = (batch_id_of(find_files([tmp_path / n])) for n in ("one", "two", "three"))
    assert one == two != three


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda p: p.write_bytes(b""), "is empty"),
        (lambda p: p.write_bytes(parquet(p).read_bytes()[:-20]), "not a whole Parquet file"),
        (lambda p: p.write_text("hello, this is text"), "not a whole Parquet, ORC or Avro file"),
        (lambda p: parquet(p, 0), "no rows at all"),
    ],
    ids=["empty", "truncated", "not parquet", "no rows"],
)
def test_what_cannot_be_ingested_is_refused_by_name(make, says: str, tmp_path: Path) -> None:
    make(tmp_path / "log.parquet")
    with pytest.raises(RawDataError, match=says) as error:
        find_files([tmp_path])
    assert str(tmp_path) in str(error.value)


def test_files_that_are_not_whole_yet_wait_unless_they_are_named(tmp_path: Path) -> None:
    whole = parquet(tmp_path / "whole.parquet")
    half, empty = tmp_path / "half.parquet", tmp_path / "sub" / "empty.parquet"
    half.write_bytes(whole.read_bytes()[:-20])
    empty.parent.mkdir()
    empty.touch()
    for asked in ([tmp_path], [whole, f"{tmp_path}/**/*.parquet"], [tmp_path, whole]):
        files, waiting = find_ready(asked)
        assert ([Path(f.path) for f in files], [*map(Path, waiting)]) == ([whole], [half, empty])
    for asked in ([half], [tmp_path, half], [empty.parent]):
        with pytest.raises(RawDataError, match=r"not a whole Parquet file|is empty"):
            find_ready(asked)
    half.write_bytes(parquet(tmp_path / "other" / "b.parquet", 2).read_bytes())
    assert [Path(f.path) for f in find_ready([f"{tmp_path}/*.parquet"])[0]] == [half, whole]


def test_nothing_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RawDataError, match="no raw files under"):
        find_files([tmp_path])
    with pytest.raises(RawDataError, match=r"no raw file .*nowhere"):
        find_files([tmp_path / "nowhere"])
    with pytest.raises(RawDataError, match="gs://bucket/log is neither"):
        find_files(["gs://bucket/log"])


def test_known_files_are_passed_over_and_a_given_id_keeps_its_files(tmp_path: Path) -> None:
    files = find_files([parquet(tmp_path / "a.parquet", 1), parquet(tmp_path / "b.parquet", 2)])
    first = choose_batch(files[:1], {}, None)
    assert (first.files, first.known) == (tuple(files[:1]), ())
    published = {first.id: {files[0].member}}
    again, both = choose_batch(files[:1], published, None), choose_batch(files, published, None)
    assert (again.id, again.files) == (first.id, ())
    assert (both.files, both.known) == ((files[1],), (files[0],))
    assert choose_batch(files[:1], published, first.id).files == ()
    with pytest.raises(BatchRefusedError, match="published with other files: 1 of these"):
        choose_batch(files, published, first.id)
