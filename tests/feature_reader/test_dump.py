"""A dumped batch reads back as it was, and a replay from the table is the same bits or says what differs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.expressions import GreaterThan
from pyiceberg.table import Table

from feature_reader import Predicate, Reader, ReaderError, dump, load_dump, replay
from feature_reader.testing import assert_batches_equal
from lakehouse.catalog import local_path
from lakehouse.settings import Settings
from tests.support.datasets import SPECS, raw_log, reference_requests, write_request_table

SPEC = SPECS["video"]
REQUESTS = reference_requests(raw_log(SPEC), SPEC)
MIDDLE = int(np.median(REQUESTS["user_id"].to_numpy()))


@pytest.fixture
def video(settings: Settings) -> Table:
    return write_request_table(settings, SPEC, REQUESTS, files=2, row_group=7)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"batch_candidates": 40, "rank": 1, "world_size": 2, "min_users_per_batch": 3},
        {"row_filter": f"user_id > {MIDDLE}", "skip_requests": REQUESTS.select(["request_id"])[:9], "seed": 5},
        {"shuffle": False, "columns": ["watched_clip", "finished"]},
    ],
)
def test_a_replay_is_the_same_bits_though_the_table_has_moved_on(
    video: Table, settings: Settings, tmp_path: Path, options: dict[str, Any]
) -> None:
    reader = Reader(video, **({"batch_requests": 7} if "batch_candidates" not in options else {}), window=3, **options)
    reader.epoch = 2
    wanted = list(reader)[1]
    reader.epoch = 1
    saved = dump(reader, 1, tmp_path / "batch.arrow", epoch=2)
    assert reader.epoch == 1
    assert_batches_equal(saved.batch, wanted)
    moved = write_request_table(settings, SPEC, reference_requests(raw_log(SPEC, seed=3), SPEC))
    read = load_dump(tmp_path / "batch.arrow")
    assert read.trace == saved.trace
    assert_batches_equal(read.batch, wanted)
    found = replay(read, moved)
    assert found.is_same, found.differences
    assert found.batch is not None
    assert found.batch.origin is not None
    assert wanted.origin is not None
    assert found.batch.origin.places() == wanted.origin.places()
    assert sorted(p.name for p in tmp_path.glob("*.arrow*")) == ["batch.arrow"]


def test_what_differs_is_named(video: Table, tmp_path: Path) -> None:
    saved = dump(Reader(video, shuffle=False, batch_requests=7), 0, tmp_path / "b")
    path = local_path(saved.trace["places"][0][0])
    rows = pq.read_table(path)
    i = rows.schema.get_field_index("taste")
    changed = [[v + 1 for v in row] if row is not None else None for row in rows["taste"].to_pylist()]
    rows = rows.set_column(i, rows.schema.field(i), pa.array(changed, rows.schema.field(i).type))
    pq.write_table(rows, path, row_group_size=7)
    found = replay(load_dump(tmp_path / "b"), Reader(video).table)
    assert len(found.differences) == 1
    assert found.differences[0].startswith("taste: ")
    assert "values differ, first at 0" in found.differences[0]
    path.unlink()
    gone = replay(load_dump(tmp_path / "b"), Reader(video).table)
    assert gone.batch is None
    assert "is not there" in gone.differences[0]


def test_another_table_is_named(video: Table, settings: Settings, tmp_path: Path) -> None:
    saved = dump(Reader(video), 0, tmp_path / "b")
    other = write_request_table(settings, SPECS["feed"], reference_requests(raw_log(SPECS["feed"]), SPECS["feed"]))
    assert not replay(saved, other).is_same


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"predicate": Predicate("p", (), lambda _: np.ones(7, bool))}, "no predicate"),
        ({"row_filter": GreaterThan("user_id", MIDDLE)}, "give it as text"),  # type: ignore[arg-type]
    ],
)
def test_what_no_file_can_hold_is_refused(video: Table, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ReaderError, match=message):
        dump(Reader(video, **options), 0, tmp_path / "b")
    assert not list(tmp_path.glob("b*"))


def test_a_step_that_is_not_there_and_files_that_are_no_dump(video: Table, tmp_path: Path) -> None:
    with pytest.raises(ReaderError, match="step 99"):
        dump(Reader(video), 99, tmp_path / "b")
    (tmp_path / "b").write_text("x")
    with pytest.raises(ReaderError, match="is no dumped batch"):
        load_dump(tmp_path / "b")
    with pa.ipc.new_file(str(tmp_path / "c"), pa.schema([])) as writer:
        writer.write_batch(pa.record_batch({}, schema=pa.schema([])))
    with pytest.raises(ReaderError, match="no batch that this reqlake dumped"):
        load_dump(tmp_path / "c")
